// Every chart that has data has drawn it; the others say why there is none.
import {contrast} from './colours.mjs';
import * as probes from './probes.mjs';

const PARTS = ['data_wait', 'forward', 'backward', 'comm_exposed', 'optimizer', 'other'];
const known = value => typeof value === 'number';
const sum = values => values.reduce((all, value) => all + value, 0);

// By chart with data: how many points it has at least, and the colours that it must show.
function expected({run, series, arrivals, timelines, metrics, marks, verdict}, look) {
  const found = {}, evaluated = metrics.filter(row => known(row.value));
  const meant = verdict?.ranks.length > 0 ? [look.parts.comm_exposed] : [];
  const shareOf = part => sum(series[`${part}_s`].filter(known)) / sum(PARTS.flatMap(name => series[`${name}_s`].filter(known)));
  if (series.step.length) found.steps = {points: series.step.length + marks.length, colours: PARTS.filter(part => shareOf(part) > 0.02).map(part => look.parts[part])};
  const waited = series.waits.flatMap(wait => wait.wait_s), recorded = waited.filter(known).length / waited.length;
  if (run.workers > 1 && recorded > 0) found.waiting = {points: recorded * series.waits.length * Math.min(series.step.length, 80), colours: []};
  const bars = arrivals.flatMap(row => row.count.filter(steps => steps > 0)).length;
  if (run.workers > 1 && bars) found.arrivals = {points: bars, colours: [look.bars, ...meant]};
  for (const {which, spans, step_s} of timelines) {
    const long = spans.filter(span => PARTS.includes(span.name) && span.end_s - span.start_s > 0.05 * step_s).map(span => look.parts[span.name]);
    if (spans.length) found[`timeline-${which}`] = {points: spans.length, colours: [...new Set(long)]};
  }
  const lines = new Set(evaluated.map(row => `${row.split} ${row.metric}`)).size + (series.loss.some(known) ? 1 : 0);
  if (lines) found.loss = {points: evaluated.length + series.loss.filter(known).length, colours: look.metrics.slice(0, lines)};
  return found;
}

function checkDrawn(check, id, chart, {points, colours}) {
  if (!chart) return check(false, `${id} is not there`);
  check(sum(chart.points) >= points, `${id} has ${sum(chart.points)} points in place of ${points}`);
  check(chart.inked > 0.01, `${id} has ink on ${(100 * chart.inked).toFixed(2)}% of its pixels`);
  check(Object.keys(chart.colours).length > 2, `${id} has ${Object.keys(chart.colours).length} colours`);
  check(chart.width > 0.9 * chart.box && chart.width <= chart.box, `${id} is ${chart.width} wide in ${chart.box}`);
  for (const colour of colours) check(chart.colours[colour] > 0, `${id} shows nothing in ${colour}`);
}

// The rank that waits least, which is waited for, is the dark row.
async function checkDarkRow({page, report, check}) {
  const means = report.series.waits.map(({wait_s: wait}) => sum(wait.filter(known)) / wait.filter(known).length);
  const rows = await page.evaluate(probes.rowBrightness), least = means.indexOf(Math.min(...means)), others = rows.filter((_, row) => row !== least);
  check(rows.length === means.length, `${rows.length} rows of waiting for ${means.length} ranks`);
  check(rows[least] < 0.75 * Math.min(...others), `row ${least} is ${rows[least]} bright, the others from ${Math.min(...others)} on`);
}

export async function checkCharts({page, report, checks, where}) {
  const check = (holds, what) => checks.check('charts', where, holds, what), look = await page.evaluate(probes.look);
  const drawn = await page.evaluate(probes.charts), meant = expected(report, look), words = await page.evaluate(probes.words);
  for (const [id, what] of Object.entries(meant)) checkDrawn(check, id, drawn[id], what);
  if (meant.waiting) await checkDarkRow({page, report, check});
  const places = ['steps', 'waiting', 'arrivals', 'loss', ...(report.timelines.length ? [] : ['timelines'])];
  for (const id of places.filter(place => !(place in meant))) {
    checks.check('says why not', where, /^[A-Z].{10,}\.$/.test(words.none[id] ?? ''), `${id} says '${words.none[id]}'`);
    checks.check('says why not', where, !(id in drawn), `${id} is drawn without data`);
  }
  for (const {kind} of report.marks) check(words.legends.steps.includes(kind), `no ${kind} in the legend`);
  for (const {step} of report.timelines) check(words.headings.join().includes(step.toLocaleString('en-US')), `step ${step} has no heading`);
  if (meant.waiting) check(/^0 ms.*\d ms and more$/.test(words.scale), `the colours' scale says '${words.scale}'`);
}

// Whether it comes to hold in the page.
const becomes = (page, holds, value) => page.waitForFunction(holds, value, {timeout: 20000}).then(() => true, () => false);

// A change of theme, paper and the window's width draw anew, with what was zoomed into; a legend's entry hides its part.
export async function checkRedraws({page, report, checks, where}, theme) {
  const check = (holds, what) => checks.check('redraws', where, holds, what);
  if (!report.series.step.length) return;
  const before = await page.evaluate(probes.look), steps = async () => (await page.evaluate(probes.charts)).steps;
  await page.evaluate(() => window.reportCharts.steps.dispatchAction({type: 'dataZoom', dataZoomIndex: 0, start: 40, end: 60}));
  await page.emulateMedia({colorScheme: theme === 'light' ? 'dark' : 'light'});
  check(await becomes(page, text => window.reportCharts.steps.getOption().textStyle.color !== text, before.text), 'charts keep their theme');
  const look = await page.evaluate(probes.look), drawn = await steps();
  check(drawn.text === look.text && drawn.colours[look.parts.backward] > 0, "charts have not the other theme's colours");
  const {start, end} = await page.evaluate(() => window.reportCharts.steps.getOption().dataZoom[0]);
  check(start === 40 && end === 60, `zoomed to ${start} … ${end}`);
  const button = page.locator('#steps .legend button', {hasText: 'backward'});
  await button.click();
  check(await button.getAttribute('aria-pressed') === 'false' && !(await steps()).colours[look.parts.backward], 'a hidden part still shows');
  const onPaper = await page.evaluate(probes.afterEvent, 'beforeprint'), onScreen = await page.evaluate(probes.afterEvent, 'afterprint');
  check(contrast(onPaper.text, '#ffffff') > 7 && onPaper.drawn === onPaper.text, `drawn for paper in ${onPaper.drawn}`);
  check(onScreen.drawn === look.text, `drawn after printing in ${onScreen.drawn}`);
  await page.setViewportSize({width: 500, height: 900});
  check(await becomes(page, () => window.reportCharts.steps.getWidth() < 500), 'charts keep their width in a narrower window');
}
