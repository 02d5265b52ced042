// node page_test.mjs PAGE_TEMPLATE NODE_MODULES_DIR [REPORT.json …]: opens the page of each of these reports, or of every sample
// report, wide and narrow, light and dark, in Chromium, and compares what it shows with the report.
import {execFileSync} from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';

import {startChromium} from '../support/chromium.mjs';
import {checkCharts, checkRedraws} from './chart_checks.mjs';
import {Checks} from './checks.mjs';
import {checkFigures, checkHead, checkTables, checkVerdict} from './figure_checks.mjs';
import {checkContrast, checkFits, checkPalette, checkText} from './text_checks.mjs';

const [template, modules, ...named] = process.argv.slice(2);
const DEADLINE_MS = 120000;
const MOST_BYTES = 5e6;

function samples(folder) {
  execFileSync('python3', [fileURLToPath(new URL('sample_reports.py', import.meta.url)), folder]);
  return fs.readdirSync(folder).filter(name => name.endsWith('.json')).map(name => path.join(folder, name));
}

// As the product writes it: no "<" of the report's is left that could end the script or change how it is read.
function writePage(reportFile, folder) {
  const json = fs.readFileSync(reportFile, 'utf8').replaceAll('<', '\\u003c');
  const file = path.join(folder, `${path.basename(reportFile, '.json')}.html`);
  fs.writeFileSync(file, fs.readFileSync(template, 'utf8').replace('@REPORT@', () => json));
  return file;
}

async function open(browser, file, view, checks, where) {
  const page = await browser.newPage({viewport: {width: view.width, height: 900}, colorScheme: view.theme});
  const url = pathToFileURL(file).href, begun = Date.now();
  page.on('console', message => checks.check('opens', where, message.type() !== 'error' && message.type() !== 'warning', message.text()));
  page.on('pageerror', error => checks.check('opens', where, false, error.stack));
  page.on('request', request => checks.check('asks for nothing', where, request.url() === url || request.url().startsWith('data:'), request.url()));
  await page.goto(url);
  const ready = await page.waitForFunction(() => window.reportReady === true, undefined, {timeout: DEADLINE_MS}).then(() => true, () => false);
  checks.check('opens', where, ready, 'is not ready');
  return {page, ready, took_ms: Date.now() - begun};
}

async function testView(browser, report, file, view, checks) {
  const where = `${path.basename(file)} ${view.width} ${view.theme}`;
  const {page, ready, took_ms} = await open(browser, file, view, checks, where);
  if (ready) {
    const at = {page, report, checks, where};
    for (const check of [checkHead, checkVerdict, checkFigures, checkTables, checkCharts, checkText, checkFits, checkContrast, checkPalette]) await check(at);
    if (view.width > 1000) await checkRedraws(at, view.theme);
  }
  await page.close();
  return took_ms;
}

async function testReport(browser, reportFile, folder, checks) {
  const file = writePage(reportFile, folder), {size} = fs.statSync(file), report = JSON.parse(fs.readFileSync(reportFile, 'utf8'));
  checks.check('size', path.basename(file), size <= MOST_BYTES, `${size} bytes`);
  const took = [];
  for (const width of [1280, 400]) for (const theme of ['light', 'dark']) took.push(await testView(browser, report, file, {width, theme}, checks));
  console.log(`${path.basename(file)}: ${(size / 1e6).toFixed(2)} MB, ready after ${took.map(ms => `${(ms / 1e3).toFixed(2)} s`).join(', ')}`);
}

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-page-')), checks = new Checks();
  const browser = await startChromium(modules);
  try {
    for (const reportFile of named.length ? named : samples(folder)) await testReport(browser, reportFile, folder, checks);
  } finally {
    await browser.close();
    fs.rmSync(folder, {recursive: true});
  }
  process.exitCode = checks.summary() ? 0 : 1;
}

await main();
