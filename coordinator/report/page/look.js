'use strict';
// What all charts share: their colours, which are page.css', their axes, and how they are zoomed.

const PARTS = ['data_wait', 'forward', 'backward', 'comm_exposed', 'optimizer', 'other'];

function readLook() {
  const css = getComputedStyle(document.documentElement);
  const colour = name => css.getPropertyValue(`--${name}`).trim();
  const look = {parts: {}, metrics: [0, 1, 2, 3].map(i => colour(`metric-${i}`)), font: getComputedStyle(document.body).fontFamily};
  for (const name of ['text', 'muted', 'line', 'card', 'bars']) look[name] = colour(name);
  for (const part of PARTS) look.parts[part] = colour(`part-${part}`);
  return look;
}

function luminance(colour) {
  const linear = channel => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  const [red, green, blue] = echarts.color.parse(colour).map(channel => linear(channel / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// Black or white, whichever reads better on `colour`: their contrasts with it are equal at 0.179.
const inkOn = colour => luminance(colour) > 0.179 ? '#10151c' : '#ffffff';

const paler = (colour, by, look) => echarts.color.lerp(by, [colour, look.card]);

function frame(look, option) {
  const tooltip = {
    confine: true, transitionDuration: 0, backgroundColor: look.card, borderColor: look.line, padding: [7, 10],
    textStyle: {color: look.text, fontSize: 12.5}, axisPointer: {lineStyle: {color: look.muted}}, ...option.tooltip,
  };
  return {animation: false, textStyle: {color: look.text, fontFamily: look.font}, ...option, tooltip};
}

function axis(look, type, extra) {
  return {
    type, nameTextStyle: {color: look.muted, fontSize: 11}, nameGap: 8, axisTick: {show: false}, splitLine: {show: false},
    axisLine: {show: false}, ...extra, axisLabel: {color: look.muted, fontSize: 11, hideOverlap: true, ...extra.axisLabel},
  };
}

const lines = look => ({show: true, lineStyle: {color: look.line}});
// An axis' name under it.
const BELOW = {nameLocation: 'middle', nameGap: 24};

// The last tick is no round number, but where the axis ends.
const ticksIn = unit => ({formatter: value => `${tick(value)} ${unit}`, showMaxLabel: false});

function timeAxis(look, width, max, unit, extra = {}) {
  const splitNumber = Math.max(2, Math.min(8, Math.floor(width / 110)));
  return axis(look, 'value', {min: 0, max, splitNumber, axisLabel: ticksIn(unit), ...extra});
}

// A bar under a chart, and the wheel with Ctrl: the wheel alone scrolls the page.
function zooms(look) {
  const nothing = {lineStyle: {opacity: 0}, areaStyle: {opacity: 0}};
  const bar = {
    type: 'slider', height: 16, bottom: 6, showDetail: false, brushSelect: false, moveHandleSize: 0, filterMode: 'none',
    borderColor: look.line, fillerColor: 'rgba(125,147,173,0.22)', handleStyle: {color: look.card, borderColor: look.muted},
    dataBackground: nothing, selectedDataBackground: nothing,
  };
  const wheel = {type: 'inside', filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseWheel: false, preventDefaultMouseMove: false};
  return [bar, wheel];
}

function rankAndHost(report, rank) {
  const host = report.ranks.find(row => row.rank === rank)?.host;
  return host ? `rank ${rank} on ${host}` : `rank ${rank}`;
}

const isMeant = ({verdict}, rank) => Boolean(verdict?.ranks?.includes(rank));

// Of the series' bins: the steps from one to another, and the one that a time lies in.
const stepsOfBins = ({series, run}, first, last) => steps(series.step[first], (series.step[last + 1] ?? run.last_step + 1) - 1);
const binAt = ({series}, time) => Math.max(0, series.time.findLastIndex(start => start <= time));
const atSecond = time => quantity(time, [[1, 's']]);
