// The figures that a page shows are the report's, to the decimals that it shows.
import * as probes from './probes.mjs';

const UNITS = {'': 1, s: 1, ms: 1e-3, '%': 1e-2, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, 'B/s': 1, 'kB/s': 1e3, 'MB/s': 1e6, 'GB/s': 1e9,
               FLOP: 1, kFLOP: 1e3, MFLOP: 1e6, GFLOP: 1e9, TFLOP: 1e12, 'FLOP/s': 1, 'MFLOP/s': 1e6, 'GFLOP/s': 1e9, 'TFLOP/s': 1e12};
const PARTS = ['data_wait', 'forward', 'backward', 'comm_exposed', 'optimizer', 'other'];

const known = value => typeof value === 'number';

// Whether `text`, in `unit`, is `value` rounded to as many decimals.
function says(text, unit, value) {
  if (!known(value)) return text === '–';
  const decimals = text.split('.')[1]?.length ?? 0, shown = Number(text.replaceAll(',', '').replace('−', '-'));
  return unit in UNITS && Math.abs(shown - value / UNITS[unit]) <= 0.5001 * 10 ** -decimals;
}

// The first figure with a unit after `before` in a text: '14.7 ms' or '26.3%'.
function figureAfter(text, before = '') {
  const found = text.slice(text.indexOf(before) + before.length).match(/([−\d][\d,.]*)\s?(%|[A-Za-z]+(?:\/s)?)/);
  return found ? [found[1].replace(/[,.]$/, ''), found[2]] : ['', 'none'];
}

const isAfter = (text, before, value) => says(...figureAfter(text, before), value);

export async function checkHead({page, report: {run}, checks, where}) {
  const check = (holds, what) => checks.check('head', where, holds, what), words = await page.evaluate(probes.words);
  for (const text of [run.name, run.state, run.model, run.algorithm, ...run.hosts.slice(0, 4)]) check(words.head.includes(text), `'${text}' is not in the head`);
  check(words.title.includes(run.name), `the title is ${words.title}`);
  check(words.head.includes(`${run.workers} on `), 'the number of workers is not in the head');
  if (run.steps > 0) check(words.head.includes(`${run.first_step.toLocaleString('en-US')} – ${run.last_step.toLocaleString('en-US')}`), 'the steps are not in the head');
  check(run.period < 2 || words.head.includes(`every ${run.period} steps`), 'the period is not in the head');
  const warnings = (run.dropped > 0 ? 1 : 0) + (run.left_out > 0 ? 1 : 0) + (run.faults.length ? 1 : 0);
  check(words.warnings.length === warnings, `${words.warnings.length} warnings in place of ${warnings}`);
  for (const fault of run.faults) check(words.warnings.join().includes(fault), `no warning of ${fault}`);
}

export async function checkVerdict({page, report: {verdict, causes, advice, parts}, checks, where}) {
  const check = (holds, what) => checks.check('verdict', where, holds, what), words = await page.evaluate(probes.words);
  if (!verdict) return check(words.verdict.startsWith('No verdict'), `without one the page says: ${words.verdict}`);
  check(words.says === verdict.text, `says '${words.says}'`);
  check(words.cause.startsWith(verdict.cause), `is called '${words.cause}'`);
  check(isAfter(words.figures, 'confidence', verdict.confidence), `confidence ${verdict.confidence} in '${words.figures}'`);
  if (verdict.saving_s_per_step > 0) {
    check(isAfter(words.figures, 'would take', verdict.saving_s_per_step), `saving ${verdict.saving_s_per_step} s in '${words.figures}'`);
    check(isAfter(words.figures, known(verdict.saving_high_s) ? '), ' : 'less, ', verdict.saving_s_per_step / parts.at(-1).mean_s), `share in '${words.figures}'`);
  }
  const interval = words.figures.match(/95%: ([\d.,]+) … ([\d.,]+) (m?s)/);
  check(Boolean(interval) === (verdict.saving_s_per_step > 0 && known(verdict.saving_high_s)), `interval in '${words.figures}'`);
  if (interval) check(says(interval[1], interval[3], verdict.saving_low_s) && says(interval[2], interval[3], verdict.saving_high_s), `interval ${interval[0]}`);
  const others = causes.slice(1);
  check(words.causes.length === others.length, `${words.causes.length} other causes in place of ${others.length}`);
  others.forEach((cause, i) => check(words.causes[i]?.endsWith(cause.text) && isAfter(words.causes[i], '', cause.saving_s_per_step), `cause '${words.causes[i]}'`));
  check(words.advice.length === advice.length, `${words.advice.length} pieces of advice in place of ${advice.length}`);
  advice.forEach((row, i) => check(words.advice[i]?.endsWith(row.text) && words.advice[i].includes(row.setting) && words.advice[i].includes(row.value)
    && (known(row.gain) ? isAfter(words.advice[i], '+', row.gain) : words.advice[i].startsWith('–')), `advice '${words.advice[i]}'`));
}

export async function checkFigures({page, report: {parts, efficiency}, checks, where}) {
  const check = (holds, what) => checks.check('parts and efficiencies', where, holds, what), words = await page.evaluate(probes.words);
  const shown = parts.filter(row => PARTS.includes(row.part) && row.share > 0), width = words.bar.reduce((sum, segment) => sum + segment.width, 0);
  check(words.barShown === shown.length > 0, `the bar shows: ${words.barShown}`);
  check(words.bar.map(segment => segment.part).join() === shown.map(row => row.part).join(), `the bar is of ${words.bar.map(segment => segment.part)}`);
  shown.forEach((row, i) => check(Math.abs(words.bar[i]?.width / width - row.share) < 0.01, `${row.part} is ${words.bar[i]?.width / width} of the bar, not ${row.share}`));
  if (!efficiency) return check(Object.keys(words.tiles).length === 0, 'efficiencies from nowhere');
  const tiles = {'load balance': efficiency.load_balance, 'communication efficiency': efficiency.communication, 'parallel efficiency': efficiency.parallel,
                 scaling: efficiency.scaling, overlap: efficiency.overlap, goodput: efficiency.goodput};
  for (const [name, value] of Object.entries(tiles)) {
    const text = words.tiles[name] ?? 'nothing';
    check(known(value) ? isAfter(text, '', value) : text === '–', `${name} ${value} is shown as ${text}`);
  }
  if (efficiency.busbw > 0) check(isAfter(words.tiles['bus bandwidth'], '', efficiency.busbw), `busbw is shown as ${words.tiles['bus bandwidth']}`);
}

const counted = layer => layer.flops > 0 ? layer.flops : null;
// By table: what its columns show, in order.
const TABLES = {
  parts: ['part', 'mean_s', 'share', 'p50_s', 'p95_s'],
  ranks: ['rank', 'host', 'step_s', ...PARTS.map(part => `${part}_s`), 'comm_wait_s', 'last_share', 'late_s', 'input_read_s', 'input_decode_s', 'input_ready',
          'clock_offset_s', 'clock_error_s', 'dropped'],
  collectives: ['name', 'algorithm', 'samples', 'grad_bytes', 'wire_bytes', 'p10_s', 'p50_s', 'p90_s', 'wait_s', 'transfer_s', 'algbw', 'busbw', 'timing'],
  layers: ['name', 'forward_s', 'backward_s', counted, layer => counted(layer) && layer.flops / (layer.forward_s + layer.backward_s)],
  links: ['from', 'to', 'latency_s', 'latency_error_s', 'bandwidth_bytes_per_s', 'bandwidth_error', 'samples',
          link => link.limit_bytes_per_s > 0 ? link.bandwidth_bytes_per_s / link.limit_bytes_per_s : null],
};

export async function checkTables({page, report, checks, where}) {
  const check = (holds, what) => checks.check('tables', where, holds, what);
  for (const [id, columns] of Object.entries(TABLES)) {
    const {head, rows, none, aligned} = await page.evaluate(probes.table, id), meant = report[id];
    check(rows.length === meant.length, `${id}: ${rows.length} rows in place of ${meant.length}`);
    check((none !== '') === (meant.length === 0), `${id}: '${none}' with ${meant.length} rows`);
    check(aligned, `${id}: numbers are not right-aligned in tabular figures`);
    const wrong = rows.flatMap((row, i) => columns.flatMap((field, at) => {
      const value = typeof field === 'function' ? field(meant[i]) : meant[i][field];
      const right = typeof value === 'string' ? row[at] === value : says(row[at], head[at].unit, value);
      return right ? [] : [`${id} row ${i}, ${head[at].name}: ${row[at]} ${head[at].unit} for ${value}`];
    }));
    check(wrong.length === 0, wrong.slice(0, 3).join('; '));
    const timed = columns.flatMap((field, at) => /(?<!_per)_s$/.test(field) && head[at] && !['ms', 's'].includes(head[at].unit) ? [head[at].name] : []);
    check(timed.length === 0, `${id}: no unit of time over ${timed}`);
  }
}
