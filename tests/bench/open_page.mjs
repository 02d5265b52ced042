// node open_page.mjs NODE_MODULES_DIR PAGE.html: opens it in a Chromium of its own and prints, as JSON, the milliseconds from the
// navigation's start until something showed, and until every chart was drawn.
import path from 'node:path';
import {pathToFileURL} from 'node:url';

import {startChromium} from '../support/chromium.mjs';

const [modules, file] = process.argv.slice(2);
const DEADLINE = {timeout: 120000};

const browser = await startChromium(modules);
try {
  const page = await browser.newPage({viewport: {width: 1280, height: 900}});
  await page.goto(pathToFileURL(path.resolve(file)).href);
  const drawn = await page.waitForFunction(() => window.reportReady === true && performance.now(), undefined, DEADLINE);
  const painted = await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime, undefined, DEADLINE);
  console.log(JSON.stringify({painted_ms: await painted.jsonValue(), drawn_ms: await drawn.jsonValue()}));
} finally {
  await browser.close();
}
