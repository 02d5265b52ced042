// Chromium for tests: headless, and asking nothing of the network on its own.
import {createRequire} from 'node:module';
import path from 'node:path';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
               '--disable-component-update', '--disable-sync'];

// With the playwright-core of a folder of npm's packages.
export function startChromium(modules) {
  const {chromium} = createRequire(path.resolve(modules, 'resolve.js'))('playwright-core');
  return chromium.launch({executablePath: '/usr/bin/chromium', args: FLAGS});
}
