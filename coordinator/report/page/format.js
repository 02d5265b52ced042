'use strict';
// Numbers as people read them, and elements whose text is never markup.

const UNKNOWN = '–';

// Of a kind of quantity, the units from the largest on: how much one is, and its name.
const TIME = [[1, 's'], [1e-3, 'ms']];
const BYTES = [[1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB'], [1, 'B']];
const RATE = [[1e9, 'GB/s'], [1e6, 'MB/s'], [1e3, 'kB/s'], [1, 'B/s']];
const FLOPS = [[1e12, 'TFLOP'], [1e9, 'GFLOP'], [1e6, 'MFLOP'], [1e3, 'kFLOP'], [1, 'FLOP']];
const FLOP_RATE = FLOPS.map(([size, name]) => [size, `${name}/s`]);

const known = value => typeof value === 'number' && Number.isFinite(value);

const FORMATS = Array.from({length: 7}, (_, decimals) =>
  new Intl.NumberFormat('en-US', {minimumFractionDigits: decimals, maximumFractionDigits: decimals}));

const fixed = (value, decimals) => known(value) ? FORMATS[decimals].format(value).replace('-', '−') : UNKNOWN;

// As many decimals as make three figures.
function decimalsOf(value) {
  const size = Math.abs(value);
  return size > 0 ? Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(size)))) : 0;
}

const number = value => fixed(value, decimalsOf(value));
// On an axis, whose values are round: without the zeros that say nothing.
const TICK = new Intl.NumberFormat('en-US', {maximumSignificantDigits: 6});
const tick = value => TICK.format(Math.abs(value) < 1000 ? value : Math.round(value)).replace('-', '−');
const count = value => fixed(value, 0);
const percent = (share, decimals = 1) => known(share) ? `${fixed(100 * share, decimals)}%` : UNKNOWN;

// The unit in which `value` is 1 or more, if there is one.
const unitFor = (value, units) => units.find(([size]) => Math.abs(value) >= size) ?? units[units.length - 1];

function quantity(value, units, [size, name] = unitFor(value, units)) {
  return known(value) ? `${number(value / size)} ${name}` : UNKNOWN;
}

const seconds = value => quantity(value, TIME);
const largest = values => values.reduce((most, value) => known(value) ? Math.max(most, Math.abs(value)) : most, 0);

// A time of minutes and more.
function duration(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 120) return seconds(value);
  const minutes = Math.round(value / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function date(secondsSince1970) {
  const pad = value => String(value).padStart(2, '0');
  const at = new Date(1000 * secondsSince1970);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
const steps = (first, last) => first === last ? `step ${count(first)}` : `steps ${count(first)} – ${count(last)}`;

// The value below which `share` of the values lie.
function quantile(values, share) {
  const sorted = values.filter(known).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : 0;
}

// An element with these attributes; children that are strings become text.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const swatch = colour => element('span', {class: 'swatch', style: `background:${colour}`});

// A tooltip: a heading, then rows of cells.
function tip(heading, rows) {
  const cells = rows.map(row => element('tr', {}, ...row.map(cell => element('td', {}, cell))));
  return element('div', {class: 'tip'}, element('strong', {}, heading), element('table', {}, ...cells));
}
