'use strict';
// A sampled step as lanes, one a rank and thread.

const THREADS = ['trainer', 'communication', 'input'];
const SHORT_THREADS = {communication: 'comm'};
const LANES_SHOWN = 30;
const LANE_HEIGHT = 21;
const NESTED = 0.7;  // of its parent's height, a nested span's
const PALE = 0.68;
const LETTER_WIDTH = 6.8;
const NARROW = 560;

function lanesOf(timeline) {
  const order = ({rank, thread}) => 100 * rank + (THREADS.indexOf(thread) + 1 || THREADS.length + 1);
  const lanes = new Map();
  for (const {rank, thread} of timeline.spans) lanes.set(`${rank} ${thread}`, {rank, thread});
  return [...lanes.values()].sort((a, b) => order(a) - order(b));
}

// The spans with their lanes, the spans that they lie in (the outermost first), and whether others lie in them.
function placed(timeline, lanes) {
  const inLanes = lanes.map(({rank, thread}) => timeline.spans.filter(span => span.rank === rank && span.thread === thread));
  return inLanes.flatMap((spans, lane) => {
    const open = [];
    return spans.sort((a, b) => a.start_s - b.start_s || b.end_s - a.end_s).map(span => {
      while (open.length && open[open.length - 1].span.end_s <= span.start_s + 1e-9) open.pop();
      const item = {span, lane, within: open.map(outer => outer.span), parent: false};
      if (open.length) open[open.length - 1].parent = true;
      open.push(item);
      return item;
    });
  });
}

// By collective: when the last rank handed it over.
function lastArrivals(timeline) {
  const last = new Map();
  for (const {seq, arrival_s} of timeline.spans) if (seq >= 0) last.set(seq, Math.max(last.get(seq) ?? 0, arrival_s));
  return last;
}

// When a collective's transfer starts: its last rank is there, and what was before it on this rank is done.
const turnOf = (span, last_s) => Math.min(Math.max(last_s, span.start_s), span.end_s);

function fillOf({span, within}, look) {
  const own = span.thread === 'input' ? look.bars : look.parts[(within[0] ?? span).name] ?? look.parts.other;
  return within.length ? paler(own, Math.min(0.75, 0.3 + 0.2 * within.length), look) : own;
}

// A layer without the pass that it lies in; nothing of one that others lie in.
function labelOf({span, within, parent}) {
  const outer = within[within.length - 1]?.name;
  if (parent) return '';
  return outer && span.name.endsWith(` ${outer}`) ? span.name.slice(0, -outer.length - 1) : span.name;
}

// What fits of a dotted name: all, its last part, its beginning. By count: measuring text takes longer than all else.
function fitting(label, width) {
  const most = Math.floor((width - 4) / LETTER_WIDTH), last = label.slice(label.lastIndexOf('.') + 1);
  if (label.length <= most) return label;
  if (last.length <= most) return last;
  return most < 3 ? '' : `${label.slice(0, most - 1)}…`;
}

function box(x, width, y, height, fill, label, look) {
  const style = {fill, stroke: look.card, lineWidth: width > 3 ? 1 : 0};
  const rect = {type: 'rect', shape: {x, y, width: Math.max(width, 0.5), height}, style};
  const text = height < 10 ? '' : fitting(label, width);
  const letters = {text, fill: inkOn(fill), fontSize: Math.min(11, height - 2), align: 'center', verticalAlign: 'middle'};
  return text ? [rect, {type: 'text', silent: true, x: x + width / 2, y: y + height / 2, style: letters}] : [rect];
}

// A collective: pale until the last rank is there, solid from then on, a mark where it was handed over.
function collectiveShapes(span, last_s, at, y, height, look) {
  const [arrival, start, turn, end] = [span.arrival_s, span.start_s, turnOf(span, last_s), span.end_s].map(at);
  const colour = look.parts.comm_exposed, pale = turn - start, solid = end - turn;
  return [
    ...(pale > 0.5 ? box(start, pale, y, height, paler(colour, PALE, look), pale > solid ? span.name : '', look) : []),
    ...box(turn, solid, y, height, colour, pale > solid ? '' : span.name, look),
    {type: 'polygon', shape: {points: [[arrival - 3, y - 2], [arrival + 3, y - 2], [arrival, y + 3]]}, style: {fill: look.text}},
  ];
}

function spanSeries(items, last, unit, look) {
  return {
    type: 'custom', progressive: 0, clip: true, encode: {x: [0, 1], y: 2},
    data: items.map(({span, lane}) => [span.start_s / unit[0], span.end_s / unit[0], lane]),
    renderItem({dataIndex}, api) {
      const item = items[dataIndex], {span, lane, within} = item, at = time => api.coord([time / unit[0], lane])[0];
      const room = 0.86 * api.size([0, 1])[1], height = room * NESTED ** within.length;
      const y = api.coord([0, lane])[1] + room / 2 - height, start = at(span.start_s);
      const children = span.seq >= 0 ? collectiveShapes(span, last.get(span.seq), at, y, height, look)
                                     : box(start, at(span.end_s) - start, y, height, fillOf(item, look), labelOf(item), look);
      return {type: 'group', children};
    },
  };
}

function spanTip(report, span, last_s) {
  const rows = [[rankAndHost(report, span.rank)], [`${span.thread} thread, ${seconds(span.start_s)} … ${seconds(span.end_s)}`]];
  if (span.seq >= 0) {
    const turn = turnOf(span, last_s);
    rows.push([`handed over at ${seconds(span.arrival_s)}, last rank's at ${seconds(last_s)}`],
              [`waits ${seconds(turn - span.start_s)}, transfers ${seconds(span.end_s - turn)}`]);
  }
  return tip(`${span.name}: ${seconds(span.end_s - span.start_s)}`, rows);
}

function laneAxis(lanes, look, narrow) {
  const starts = lane => lane === 0 || lanes[lane].rank !== lanes[lane - 1].rank;
  const label = ({rank, thread}, first) => {
    const name = narrow ? SHORT_THREADS[thread] ?? thread : thread;
    return first ? `{rank|${narrow ? rank : `rank ${rank}`}}  ${name}` : name;
  };
  return axis(look, 'category', {
    inverse: true, data: lanes.map((_, lane) => lane), splitLine: {...lines(look), interval: starts},
    axisLabel: {interval: 0, hideOverlap: false, formatter: lane => label(lanes[lane], starts(Number(lane))),
                rich: {rank: {color: look.text, fontWeight: 600, fontSize: 11}}},
  });
}

// Where there are more lanes than fit, a bar at the side moves through them; at first the verdict's rank is in sight.
function laneZoom(report, lanes, look) {
  if (lanes.length <= LANES_SHOWN) return [];
  const meant = lanes.findIndex(lane => isMeant(report, lane.rank));
  const first = Math.max(0, Math.min(lanes.length - LANES_SHOWN, meant - LANES_SHOWN / 2));
  const beside = {yAxisIndex: 0, height: undefined, bottom: 48, width: 14, right: 4};
  return [{...zooms(look)[0], ...beside, filterMode: 'filter', zoomLock: true, startValue: first, endValue: first + LANES_SHOWN - 1}];
}

// Where a typical step ends, in one that takes longer.
function endLine(report, timeline, unit, look) {
  const typical = report.timelines.find(other => other.which === 'typical');
  if (!typical || typical.step_s >= timeline.step_s) return undefined;
  return {silent: true, symbol: 'none', lineStyle: {color: look.text, type: 'dashed', width: 1}, data: [{xAxis: typical.step_s / unit[0]}],
          label: {formatter: 'a typical step ends', position: 'start', color: look.text, fontSize: 11}};
}

function timelineOption(report, timeline, look, width) {
  const lanes = lanesOf(timeline), items = placed(timeline, lanes), last = lastArrivals(timeline);
  const unit = unitFor(timeline.step_s, TIME), narrow = width < NARROW;
  return frame(look, {
    grid: {left: narrow ? 66 : 130, right: lanes.length > LANES_SHOWN ? 26 : 16, top: 20, bottom: 50},
    tooltip: {formatter: ({dataIndex}) => spanTip(report, items[dataIndex].span, last.get(items[dataIndex].span.seq))},
    xAxis: timeAxis(look, width, timeline.step_s / unit[0], unit[1], {splitLine: lines(look)}),
    yAxis: laneAxis(lanes, look, narrow),
    dataZoom: [...zooms(look), ...laneZoom(report, lanes, look)],
    series: [{...spanSeries(items, last, unit, look), markLine: endLine(report, timeline, unit, look)}],
  });
}

function timelineKeys(report, look) {
  const spans = report.timelines.flatMap(timeline => timeline.spans), names = new Set(spans.map(span => span.name));
  const keys = PARTS.filter(part => names.has(part)).map(part => ({name: part, colour: look.parts[part]}));
  if (spans.some(span => span.seq >= 0)) {
    keys.push({name: 'a bucket waits for the last rank', colour: paler(look.parts.comm_exposed, PALE, look)},
              {name: 'is transferred', colour: look.parts.comm_exposed}, {name: 'handed over', glyph: '▾'});
  }
  if (spans.some(span => span.thread === 'input')) keys.push({name: 'input', colour: look.bars});
  return keys;
}

// The first one has the legend of all.
const timelineCharts = report => report.timelines.map((timeline, i) => ({
  id: `timeline-${timeline.which}`,
  heading: `The ${timeline.which} one, step ${count(timeline.step)}: ${seconds(timeline.step_s)}${
    timeline.left_out > 0 ? `, without ${count(timeline.left_out)} spans too short to be seen` : ''}`,
  option: (_, look, width) => timelineOption(report, timeline, look, width),
  ...(i === 0 && {keys: timelineKeys, fixed: true}),
  height: () => LANE_HEIGHT * Math.min(LANES_SHOWN, lanesOf(timeline).length) + 70,
  missing: () => timeline.spans.length ? '' : 'Nothing was recorded of what its threads did.',
}));
