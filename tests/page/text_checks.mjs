// Text is text, fits and can be read.
import {apart, contrast} from './colours.mjs';
import * as probes from './probes.mjs';

const LEAST_CONTRAST = 4.5;
const LEAST_APART = 15;

function stringsOf(value) {
  if (typeof value === 'string') return [value];
  return value && typeof value === 'object' ? Object.values(value).flatMap(stringsOf) : [];
}

// Names that hold markup stand in the page letter by letter, also in tooltips, and make no element.
export async function checkText({page, report, checks, where}) {
  const check = (holds, what) => checks.check('names are text', where, holds, what);
  const host = report.ranks.find(row => row.host.includes('<'))?.host;
  if (host && report.series.waits.length) {
    await page.evaluate(() => window.reportCharts.waiting.dispatchAction({type: 'showTip', seriesIndex: 0, dataIndex: 0}));
    const tip = await page.evaluate(() => document.querySelector('#waiting .tip')?.textContent ?? '');
    check(tip.includes(host), `the waiting chart's tooltip says '${tip}'`);
  }
  const words = await page.evaluate(probes.words), shown = [report.run.hosts, report.run.model, report.run.faults, report.ranks.map(row => row.host),
                                                             report.verdict?.text, report.collectives.map(row => row.name), report.advice.map(row => row.value)];
  for (const text of new Set(stringsOf(shown))) check(words.text.includes(text) || report.run.hosts.indexOf(text) > 3, `'${text}' is not in the page`);
  check(words.markup === 0, `${words.markup} elements that the page does not make`);
  check(!words.hacked, "a name's script has run");
}

export async function checkFits({page, checks, where}) {
  const check = (holds, what) => checks.check('fits', where, holds, what), {wide, room, out, spill} = await page.evaluate(probes.layout);
  check(wide <= room, `the page is ${wide} wide in ${room}`);
  check(out.length === 0, `out of the window: ${out}`);
  check(spill.length === 0, `wider than their box: ${spill}`);
}

export async function checkContrast({page, checks, where}) {
  const check = (holds, what) => checks.check('contrast', where, holds, what), texts = await page.evaluate(probes.texts);
  check(texts.length > 20, `${texts.length} texts`);
  for (const {text, colour, ground} of texts) {
    const found = contrast(colour, ground);
    check(found >= LEAST_CONTRAST, `${found.toFixed(2)} of '${text}', ${colour} on ${ground}`);
  }
  const {card} = await page.evaluate(probes.look);
  for (const [id, {text, labels}] of Object.entries(await page.evaluate(probes.charts))) {
    for (const colour of [text, ...labels.filter(Boolean)]) check(contrast(colour, card) >= LEAST_CONTRAST, `${colour} in chart ${id}`);
  }
}

export async function checkPalette({page, checks, where}) {
  const {parts} = await page.evaluate(probes.look), names = Object.keys(parts);
  for (const eyes of ['normal', 'deuteranopia']) {
    names.forEach((one, i) => names.slice(i + 1).forEach(other => {
      const found = apart(parts[one], parts[other], eyes);
      checks.check('palette', where, found >= LEAST_APART, `${one} and ${other} are ${found.toFixed(1)} apart to ${eyes} eyes`);
    }));
  }
}
