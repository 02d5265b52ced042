'use strict';
// Who waits, and who comes last: a row a rank, level with each other.

const DARK_TO_BRIGHT = ['#0c1e47', '#1d4f86', '#2f86a6', '#6cbda8', '#bfe3a6', '#fbf3b0'];
const SHADES = 64;
const MOST_CELLS = 9000;
const ROW_HEIGHT = {most: 26, least: 8, all: 420};
const RANKS_GRID = {left: 34, right: 14, top: 22, bottom: 42};

const rowHeight = ranks => Math.floor(Math.min(ROW_HEIGHT.most, Math.max(ROW_HEIGHT.least, ROW_HEIGHT.all / ranks)));
const ranksHeight = ranks => ranks * rowHeight(ranks) + RANKS_GRID.top + RANKS_GRID.bottom;

// Ranks from the top on. Where rows are low only some have their number, the verdict's first always.
function rankAxis(report, look, ranks) {
  const first = ranks.findIndex(rank => isMeant(report, rank)), every = Math.ceil(13 / rowHeight(ranks.length));
  const numbered = row => row === first || (row % every === 0 && (first < 0 || Math.abs(row - first) >= every));
  return axis(look, 'category', {
    name: 'rank', nameLocation: 'start', inverse: true, data: ranks,
    axisLabel: {interval: numbered, hideOverlap: false, rich: {meant: {color: look.text, fontWeight: 700, fontSize: 11}},
                formatter: rank => isMeant(report, Number(rank)) ? `{meant|${rank}}` : `${rank}`},
  });
}

// The waits, bins put together in so many columns: [column, row, mean], and the columns' first bins.
function waitCells({waits, step}, columns) {
  const edges = Array.from({length: columns + 1}, (_, i) => Math.floor(i * step.length / columns));
  const cells = [];
  waits.forEach(({wait_s: wait}, row) => {
    for (let i = 0; i < columns; ++i) {
      const values = wait.slice(edges[i], edges[i + 1]).filter(known);
      if (values.length) cells.push([i, row, values.reduce((sum, value) => sum + value, 0) / values.length]);
    }
  });
  return {edges, cells};
}

// Narrow cells are of whole pixels, so that their edges leave no pattern, and few enough to be drawn at once.
function waitColumns(bins, ranks, room) {
  const wide = Math.max(3, room / Math.min(bins, MOST_CELLS / ranks));
  if (wide > 6) return {columns: Math.min(bins, Math.floor(room / wide)), width: room};
  const columns = Math.floor(room / Math.ceil(wide));
  return {columns, width: columns * Math.ceil(wide)};
}

// The brightest colour's: a few cells far above all others have it too.
const waitTop = ({series}) => quantile(series.waits.flatMap(wait => wait.wait_s), 0.98) || 1e-3;

function cellSeries(cells, top) {
  const shades = Array.from({length: SHADES}, (_, i) => echarts.color.lerp(i / (SHADES - 1), DARK_TO_BRIGHT));
  return {
    type: 'custom', progressive: 0, data: cells, encode: {x: 0, y: 1}, emphasis: {disabled: true},
    renderItem(params, api) {
      const [width, height] = api.size([1, 1]), [x, y] = api.coord([api.value(0), api.value(1)]);
      const fill = shades[Math.min(SHADES - 1, Math.floor(SHADES * api.value(2) / top))];
      return {type: 'rect', shape: {x: x - width / 2, y: y - height / 2, width, height}, style: {fill}};
    },
  };
}

function waitingOption(report, look, width) {
  const {series} = report, ranks = series.waits.map(wait => wait.rank), room = width - RANKS_GRID.left - RANKS_GRID.right;
  const {columns, width: drawn} = waitColumns(series.step.length, ranks.length, room);
  const {edges, cells} = waitCells(series, columns);
  const interval = Math.ceil(columns / Math.max(2, room / 90)) - 1;
  return frame(look, {
    grid: {...RANKS_GRID, width: drawn},
    tooltip: {formatter: ({value: [x, y, wait]}) =>
      tip(rankAndHost(report, ranks[y]), [[stepsOfBins(report, edges[x], edges[x + 1] - 1)], [`waits ${seconds(wait)} a step`]])},
    xAxis: axis(look, 'category', {...BELOW, name: 'step', data: edges.slice(0, -1).map(bin => count(series.step[bin])), axisLabel: {interval}}),
    yAxis: rankAxis(report, look, ranks),
    series: [cellSeries(cells, waitTop(report))],
  });
}

function waitingScale(report) {
  const top = waitTop(report), unit = unitFor(top, TIME);
  return {colours: DARK_TO_BRIGHT, from: quantity(0, TIME, unit), to: `${quantity(top, TIME, unit)} and more`};
}

function waitingMissing(report) {
  if (report.run.workers < 2) return 'One rank has nobody to wait for.';
  return report.series.waits.some(wait => wait.wait_s.some(known)) ? '' : 'No waiting has been recorded in these steps.';
}

// Bars on each row, the largest as high as the row.
function barSeries(report, look, rows) {
  const most = rows.map(row => largest(row.count)), data = [];
  rows.forEach((row, y) => row.count.forEach((steps, bin) => { if (steps > 0) data.push([bin, y, steps]); }));
  return {
    type: 'custom', progressive: 0, data, encode: {x: 0, y: 1},
    renderItem(params, api) {
      const [bin, row, steps] = [0, 1, 2].map(dimension => api.value(dimension)), high = api.size([0, 1])[1];
      const [x, middle] = api.coord([bin, row]), [next] = api.coord([bin + 1, row]);
      const height = Math.max(0.5, 0.88 * high * steps / most[row]);
      const fill = isMeant(report, rows[row].rank) ? look.parts.comm_exposed : look.bars;
      return {type: 'rect', shape: {x, y: middle + high / 2 - height, width: Math.max(1, next - x - 0.5), height}, style: {fill}};
    },
  };
}

function arrivalsOption(report, look) {
  const rows = report.arrivals, edges = rows[0].edge_s, bins = edges.length - 1, [size, unit] = unitFor(largest(edges), TIME);
  const totals = rows.map(row => row.count.reduce((sum, steps) => sum + steps, 0)), every = Math.max(1, Math.ceil(bins / 6));
  const edge = bin => known(edges[bin]) ? tick(Number((edges[bin] / size).toPrecision(3))) : '∞';
  return frame(look, {
    grid: RANKS_GRID,
    tooltip: {formatter: ({value: [bin, row, steps]}) => tip(rankAndHost(report, rows[row].rank), [
      [`${edge(bin)} … ${edge(bin + 1)} ${unit} before the last`], [`${plural(steps, 'step')}, ${percent(steps / totals[row])}`]])},
    xAxis: axis(look, 'value', {...BELOW, name: `${unit} before the last rank`, min: 0, max: bins, interval: every,
                                axisLabel: {formatter: edge, showMaxLabel: bins % every === 0}}),
    yAxis: {...rankAxis(report, look, rows.map(row => row.rank)), splitLine: lines(look)},
    series: [barSeries(report, look, rows)],
  });
}

function arrivalsMissing(report) {
  if (report.run.workers < 2) return 'One rank has nobody to come after.';
  return report.arrivals.some(row => largest(row.count) > 0) ? '' : 'The ranks of no step have been compared yet.';
}

const RANK_CHARTS = [
  {id: 'waiting', option: waitingOption, scale: waitingScale, height: report => ranksHeight(report.series.waits.length), missing: waitingMissing},
  {id: 'arrivals', option: arrivalsOption, height: report => ranksHeight(report.arrivals.length), missing: arrivalsMissing},
];
