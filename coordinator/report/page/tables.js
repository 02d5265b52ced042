'use strict';

// How a column's values are shown: {unit, show}, in one unit and with the decimals that suit its largest. `atLeast`: from
// which figure on a larger unit is taken.
const inUnits = (units, atLeast = 1) => values => {
  const [size, unit] = unitFor(largest(values) / atLeast, units), most = largest(values) / size;
  const decimals = Math.max(most >= 100 ? 1 : 2, decimalsOf(most));
  return {unit, show: value => fixed(known(value) ? value / size : null, decimals)};
};

const COLUMNS = {
  text: () => ({unit: '', show: value => value || UNKNOWN}),
  count: () => ({unit: '', show: count}),
  number: () => ({unit: '', show: value => fixed(value, 1)}),
  percent: () => ({unit: '%', show: value => fixed(known(value) ? 100 * value : null, 1)}),
  time: inUnits(TIME, 10),  // short times stand beside long ones
  bytes: inUnits(BYTES),
  rate: inUnits(RATE),
  flops: inUnits(FLOPS),
  flop_rate: inUnits(FLOP_RATE),
};

function cell(kind, value, show) {
  if (value instanceof Node) return element('td', {class: kind}, value);
  return element('td', {class: kind, ...(kind === 'text' && {title: value})}, show(value));
}

// `columns`: [heading, kind, field or function of a row]. `classOf`: of a row's line.
function table(rows, columns, classOf = () => '') {
  const made = columns.map(([heading, kind, of]) => {
    const values = rows.map(row => typeof of === 'function' ? of(row) : row[of]);
    return {heading, kind, values, ...COLUMNS[kind](values)};
  });
  const head = made.map(({heading, kind, unit}) => element('th', {class: kind}, heading, element('span', {class: 'unit'}, unit || '\u00a0')));
  const body = rows.map((row, i) => element('tr', {class: classOf(row)}, ...made.map(({kind, values, show}) => cell(kind, values[i], show))));
  return element('table', {}, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...body));
}

const partName = ({part}) => element('span', {}, PARTS.includes(part) ? swatch(`var(--part-${part})`) : '', part);

const PART_COLUMNS = [
  ['part', 'text', partName], ['mean', 'time', 'mean_s'], ['share', 'percent', 'share'], ['median', 'time', 'p50_s'], ['p95', 'time', 'p95_s'],
];

const RANK_COLUMNS = [
  ['rank', 'count', 'rank'], ['host', 'text', 'host'], ['step', 'time', 'step_s'], ...PARTS.map(part => [part, 'time', `${part}_s`]),
  ['waits', 'time', 'comm_wait_s'], ['last in', 'percent', 'last_share'], ['late by', 'time', 'late_s'], ['read', 'time', 'input_read_s'],
  ['decode', 'time', 'input_decode_s'], ['ready', 'number', 'input_ready'], ['clock', 'time', 'clock_offset_s'],
  ['clock ±', 'time', 'clock_error_s'], ['lost', 'count', 'dropped'],
];

const COLLECTIVE_COLUMNS = [
  ['collective', 'text', 'name'], ['algorithm', 'text', 'algorithm'], ['samples', 'count', 'samples'], ['gradients', 'bytes', 'grad_bytes'],
  ['on the wire', 'bytes', 'wire_bytes'], ['p10', 'time', 'p10_s'], ['median', 'time', 'p50_s'], ['p90', 'time', 'p90_s'],
  ['wait', 'time', 'wait_s'], ['transfer', 'time', 'transfer_s'], ['algbw', 'rate', 'algbw'], ['busbw', 'rate', 'busbw'],
  ['told by', 'text', 'timing'],
];

const LAYER_COLUMNS = [
  ['layer', 'text', 'name'], ['forward', 'time', 'forward_s'], ['backward', 'time', 'backward_s'],
  ['work', 'flops', ({flops}) => flops > 0 ? flops : null],
  ['pace', 'flop_rate', ({flops, forward_s, backward_s}) => flops > 0 ? flops / (forward_s + backward_s) : null],
];

const LINK_COLUMNS = [
  ['from', 'text', 'from'], ['to', 'text', 'to'], ['latency', 'time', 'latency_s'], ['±', 'time', 'latency_error_s'],
  ['bandwidth', 'rate', 'bandwidth_bytes_per_s'], ['±', 'rate', 'bandwidth_error'], ['messages', 'count', 'samples'],
  ['of bench', 'percent', ({bandwidth_bytes_per_s: rate, limit_bytes_per_s: limit}) => limit > 0 ? rate / limit : null],
];

// Each with what to say where there are no rows.
function reportTables({run, parts, ranks, collectives, layers, links, verdict}) {
  return [
    ['parts', parts, PART_COLUMNS, 'No step has been recorded yet.', row => row.part === 'step' ? 'sum' : ''],
    ['ranks', ranks, RANK_COLUMNS, 'No rank has reported a step yet.', row => verdict?.ranks?.includes(row.rank) ? 'meant' : ''],
    ['collectives', collectives, COLLECTIVE_COLUMNS,
     run.workers < 2 ? 'One rank has nothing to exchange.' : 'No collective has been sampled yet.'],
    ['layers', layers, LAYER_COLUMNS, 'No layer has been sampled yet.'],
    ['links', links, LINK_COLUMNS, run.hosts.length < 2 ? 'All ranks are on one host.' : 'No collective between hosts has been sampled yet.'],
  ];
}
