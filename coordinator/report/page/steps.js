'use strict';
// Step time over the run.

const GLYPHS = {checkpoint: '◆', stop: '■', warning: '▲', buckets: '●'};
const glyphOf = kind => GLYPHS[kind] ?? '▼';

const stepOf = ({series}, bin, parts = PARTS) => parts.reduce((sum, part) => sum + (series[`${part}_s`][bin] ?? 0), 0);

function binTip(report, bin, look) {
  const {series, marks} = report;
  const parts = PARTS.map(part => [element('span', {}, swatch(look.parts[part]), part), seconds(series[`${part}_s`][bin])]);
  const decisions = marks.filter(mark => binAt(report, mark.time) === bin).map(({kind, rule}) => [`${glyphOf(kind)} ${kind}`, rule]);
  return tip(`${stepsOfBins(report, bin, bin)}, from ${atSecond(series.time[bin])}`,
             [...parts, ['step', seconds(stepOf(report, bin))], ['slowest rank', seconds(series.step_max_s[bin])],
              ['speed', `${number(series.samples_per_s[bin])} samples/s`], ...decisions]);
}

const markTip = ({kind, step, rule, reason}) =>
  tip(`${glyphOf(kind)} ${kind} at step ${count(step)}`, [[[rule, reason].filter(Boolean).join(': ')]]);

const MARK_WIDTH = 12;   // of a glyph: those of one kind that would stand on each other are not drawn
const MOST_LINES = 40;  // of one kind: more would hide the chart

// Decisions: a line each, and a glyph above the plot. Zooming in brings back what there was no room for.
function markSeries(marks, look) {
  const number = new Map(), drawn = new Map();
  for (const {kind} of marks) number.set(kind, (number.get(kind) ?? 0) + 1);
  const dashes = {stop: 'solid', warning: [6, 3], buckets: [2, 2], checkpoint: [1, 4]};
  const colours = {stop: look.text, warning: look.parts.comm_exposed};
  return {
    type: 'custom', name: 'decisions', clip: false, yAxisIndex: 1, z: 5, data: marks.map(mark => [mark.time, 1]),
    tooltip: {trigger: 'item', formatter: ({dataIndex}) => markTip(marks[dataIndex])},
    renderItem({dataIndex, coordSys: plot}, api) {
      const {kind} = marks[dataIndex], [x] = api.coord([api.value(0), 1]);
      if (dataIndex === 0) drawn.clear();
      if (x < plot.x - 1 || x > plot.x + plot.width + 1 || x - (drawn.get(kind) ?? -Infinity) < MARK_WIDTH) return null;
      drawn.set(kind, x);
      const line = {stroke: look.text, opacity: 0.7, lineDash: dashes[kind] ?? [1, 2]};
      const glyph = {text: glyphOf(kind), fill: colours[kind] ?? look.muted, fontSize: 12, align: 'center', verticalAlign: 'bottom'};
      const upright = {type: 'line', silent: true, shape: {x1: x, y1: plot.y, x2: x, y2: plot.y + plot.height}, style: line};
      return {type: 'group', children: [...(number.get(kind) > MOST_LINES ? [] : [upright]), {type: 'text', x, y: plot.y - 2, style: glyph}]};
    },
  };
}

// Values that hold from `times[i]` to `times[i + 1]`, as columns of 2 pixels between `left` and `right`: [left edge, mean
// of the values that start in it].
function columnsOf(times, values, xOf, left, right) {
  const columns = [];
  for (let i = 0; i < values.length; ++i) {
    const x = Math.max(left, Math.round(xOf(times[i]) / 2) * 2), last = columns[columns.length - 1];
    if (x > right || xOf(times[i + 1]) < left) continue;
    if (last?.x === x) last.sum += values[i], ++last.n;
    else columns.push({x, sum: values[i], n: 1});
  }
  return columns.map(({x, sum, n}) => [x, sum / n]);
}

// Every part's area reaches down to 0 and is covered by those of the parts before it: edges that meet would let the
// ground shine through. Drawn by hand, since ECharts' own areas take long with thousands of points.
function partAreas(report, look, parts, end, unit) {
  const times = [...report.series.time, end], colours = parts.map(part => look.parts[part]).reverse();
  const topsOf = some => report.series.time.map((_, bin) => stepOf(report, bin, some) / unit[0]);
  const tops = parts.map((_, i) => topsOf(parts.slice(0, i + 1))).reverse();
  return {
    type: 'custom', name: 'parts', silent: true, tooltip: {show: false}, data: tops.map(() => [0, 0]),
    renderItem({dataIndex, coordSys: plot}, api) {
      const [zero, ground] = api.coord([0, 0]), [one, above] = api.coord([1, 1]);
      const xOf = time => zero + time * (one - zero), right = Math.min(plot.x + plot.width, xOf(end));
      const columns = columnsOf(times, tops[dataIndex], xOf, plot.x, right);
      const outline = columns.flatMap(([x, value], i) => {
        const y = Math.max(plot.y, ground + value * (above - ground));
        return [[x, y], [columns[i + 1]?.[0] ?? right, y]];
      });
      return {type: 'polygon', shape: {points: [[plot.x, ground], ...outline, [right, ground]]}, style: {fill: colours[dataIndex]}};
    },
  };
}

// What the tooltip holds on to.
function binPoints(report, unit) {
  return {type: 'line', name: 'step', symbol: 'none', lineStyle: {width: 0}, emphasis: {disabled: true},
          data: report.series.time.map((time, bin) => [time, stepOf(report, bin) / unit[0]])};
}

// The top of the axis: a few bins far above all others are cut, so that the others can be told apart.
function stepsTop(totals) {
  const most = largest(totals), usual = quantile(totals, 0.99);
  return 1.05 * (most > 1.6 * usual ? 1.2 * usual : most) || 1e-3;
}

function stepsOption(report, look, width, hidden) {
  const {series, run} = report, parts = PARTS.filter(part => !hidden.has(part));
  const end = Math.max(run.seconds, series.time[series.time.length - 1]);
  const top = stepsTop(series.step.map((_, bin) => stepOf(report, bin, parts))), unit = unitFor(top, TIME);
  const marks = report.marks.filter(mark => !hidden.has(mark.kind));
  return frame(look, {
    grid: {left: 56, right: 16, top: 30, bottom: 48},
    tooltip: {trigger: 'axis', formatter: ([nearest]) => binTip(report, binAt(report, nearest.axisValue), look)},
    xAxis: timeAxis(look, width, end, 's'),
    yAxis: [axis(look, 'value', {max: top / unit[0], splitLine: lines(look), axisLabel: ticksIn(unit[1])}), {show: false, min: 0, max: 1}],
    dataZoom: zooms(look),
    series: [partAreas(report, look, parts, end, unit), binPoints(report, unit), markSeries(marks, look)],
  });
}

function stepsNote(report) {
  const totals = report.series.step.map((_, bin) => stepOf(report, bin)), most = largest(totals), bin = totals.indexOf(most);
  return most > stepsTop(totals) ? `Cut at the top: up to ${seconds(most)}, in ${stepsOfBins(report, bin, bin)}.` : '';
}

const stepsKeys = (report, look) => [
  ...PARTS.map(part => ({name: part, colour: look.parts[part]})),
  ...[...new Set(report.marks.map(mark => mark.kind))].map(kind => ({name: kind, glyph: glyphOf(kind)})),
];

const STEPS_CHART = {
  id: 'steps', option: stepsOption, keys: stepsKeys, note: stepsNote, height: () => 300,
  missing: report => report.series.step.length ? '' : 'No step has been recorded yet.',
};
