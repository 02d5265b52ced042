'use strict';
// Losses on the left axis, all other metrics on the right one.

function lossLines({series, metrics}) {
  const made = [];
  if (series.loss.some(known)) made.push({name: 'training loss', metric: 'loss', points: series.time.map((at, i) => [at, series.loss[i]])});
  for (const {split, metric, time, value} of metrics.filter(row => known(row.value))) {
    const name = `${split} ${metric}`.trim();
    let line = made.find(other => other.name === name);
    if (!line) made.push(line = {name, metric, right: metric !== 'loss', evaluated: true, points: []});
    line.points.push([time, value]);
  }
  return made;
}

function lossTip(report, shown) {
  const [{axisValue: time}] = shown, step = report.series.step[binAt(report, time)];
  const rows = shown.map(line => [element('span', {}, swatch(line.color), line.seriesName), number(line.value[1])]);
  return tip(step === undefined ? atSecond(time) : `step ${count(step)}, at ${atSecond(time)}`, rows);
}

const metricColour = (look, i) => look.metrics[i % look.metrics.length];

function lossSeries({name, right, evaluated, points}, i, look) {
  const dotted = points.length < (evaluated ? 100 : 40);
  return {
    type: 'line', name, yAxisIndex: right ? 1 : 0, data: points, color: metricColour(look, i), emphasis: {disabled: true},
    symbol: dotted ? 'circle' : 'none', symbolSize: 5, lineStyle: {width: 1.5, type: right ? 'dashed' : 'solid'},
  };
}

function lossOption(report, look, width, hidden) {
  const drawn = lossLines(report), right = [...new Set(drawn.filter(line => line.right).map(line => line.metric))];
  const end = Math.max(report.run.seconds, ...drawn.map(line => line.points[line.points.length - 1][0]));
  const name = {color: look.muted, fontSize: 11, align: 'right', width: width / 2, overflow: 'truncate'}, axisLabel = {formatter: tick};
  return frame(look, {
    grid: {left: 56, right: right.length ? 46 : 16, top: 26, bottom: 24},
    tooltip: {trigger: 'axis', formatter: shown => lossTip(report, shown)},
    xAxis: timeAxis(look, width, end, 's'),
    yAxis: [axis(look, 'value', {name: drawn.every(line => line.right) ? '' : 'loss', scale: true, splitLine: lines(look), axisLabel}),
            axis(look, 'value', {name: right.join(', '), nameTextStyle: name, scale: true, axisLabel})],
    series: drawn.map((line, i) => lossSeries(line, i, look)).filter(line => !hidden.has(line.name)),
  });
}

const lossKeys = (report, look) => lossLines(report).map(({name, right}, i) =>
  ({name, colour: metricColour(look, i), aside: right ? ' (right)' : ''}));

const LOSS_CHART = {
  id: 'loss', option: lossOption, keys: lossKeys, height: () => 240,
  missing: report => lossLines(report).length ? '' : 'No loss and no evaluation has been recorded yet.',
};
