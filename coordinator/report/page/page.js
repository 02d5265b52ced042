'use strict';
// Fills page.html from the report. window.reportReady says that every chart is drawn; window.reportCharts holds them by name.

const report = JSON.parse(document.getElementById('report').textContent);
const CAUSE_PARTS = {
  'compute-bound': 'backward', 'communication-bound': 'comm_exposed', 'input-bound': 'data_wait', 'straggler-bound': 'comm_exposed',
};
window.reportCharts = {};

const place = id => document.getElementById(id);
const fill = (id, ...children) => place(id).replaceChildren(...children);
const sentence = text => element('p', {class: 'none'}, text);

// Head

const firstOf = (names, most = 4) => names.slice(0, most).join(', ') + (names.length > most ? ', …' : '');
const hostsText = hosts => (hosts.length > 4 ? `${hosts.length} hosts: ` : '') + firstOf(hosts);

function stepsText({steps, first_step, last_step}) {
  if (steps === 0) return 'none yet';
  const lost = last_step - first_step + 1 - steps;
  return `${count(first_step)} – ${count(last_step)}${lost > 0 ? `, ${count(lost)} of them rolled back` : ''}`;
}

function gradientsText({algorithm, compression, period}) {
  const packed = compression && compression !== 'none' ? compression : 'no compression';
  return [algorithm, packed, period > 1 ? `parameters averaged every ${plural(period, 'step')}` : 'every step'].filter(Boolean).join(', ');
}

const factsOf = run => [
  ['model', run.model],
  ['workers', `${count(run.workers)}${run.hosts.length ? ` on ${hostsText(run.hosts)}` : ''}`],
  ['gradients', gradientsText(run)],
  ['batch', plural(run.global_batch_size, 'sample')],
  ['steps', stepsText(run)],
  ['speed', run.steps > 0 ? `${number(run.samples_per_s)} samples/s` : ''],
  ['time', run.steps > 0 && `${duration(run.seconds)}${run.launches > 1 ? ` in ${run.launches} launches` : ''}`],
  ['started', date(run.started)],
];

function warningsOf({dropped, left_out, faults}) {
  return [
    dropped > 0 && `${plural(dropped, 'step record was', 'step records were')} lost: figures are over those that are there.`,
    left_out > 0 && `${plural(left_out, 'span', 'spans')} of sampled steps left out: a step had more than a record holds.`,
    faults.length > 0 && `Faults were put in on purpose: ${faults.join('; ')}.`,
  ].filter(Boolean);
}

function showHead(run) {
  document.title = `${run.name}: Lockstep report`;
  const facts = factsOf(run).filter(([, value]) => value);
  fill('head',
    element('h1', {}, run.name, element('span', {class: 'state'}, run.state)),
    element('dl', {}, ...facts.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value)))),
    ...warningsOf(run).map(text => element('p', {class: 'warning'}, text)));
}

function showFoot({lockstep, folder, workers, steps_looked_at, clock_error_s}) {
  const compared = `ranks compared in ${plural(steps_looked_at, 'step')}, clocks within ${seconds(clock_error_s)}`;
  fill('foot', [`Lockstep ${lockstep}`, folder, workers > 1 && steps_looked_at > 0 && compared].filter(Boolean).join(' · '));
}

// Verdict

function causeText({cause, kind, persistence, ranks = []}) {
  const more = [kind, persistence, ranks.length > 0 && `${ranks.length > 1 ? 'ranks' : 'rank'} ${firstOf(ranks)}`].filter(Boolean);
  return [element('strong', {}, cause), more.map(text => ` · ${text}`).join('')];
}

function intervalText({saving_low_s: low, saving_high_s: high}) {
  if (!known(low) || !known(high)) return '';
  const unit = unitFor(high, TIME);
  return ` (95%: ${number(low / unit[0])} … ${quantity(high, TIME, unit)})`;
}

function verdictFigures(verdict, step_s) {
  const saving_s = verdict.saving_s_per_step, sure = `confidence ${percent(verdict.confidence, 0)}`;
  if (!(saving_s > 0)) return element('p', {class: 'figures'}, sure);
  const share = step_s > 0 ? `, ${percent(saving_s / step_s)} of it` : '';
  return element('p', {class: 'figures'}, 'Without it a step would take ', element('strong', {class: 'saving'}, seconds(saving_s)),
                 ` less${intervalText(verdict)}${share}; ${sure}.`);
}

function causeRow(finding) {
  return element('li', {},
    element('div', {class: 'gain'}, seconds(finding.saving_s_per_step), ' ', element('span', {class: 'small'}, 'a step')),
    element('div', {}, element('span', {class: 'cause'}, ...causeText(finding)), element('div', {}, finding.text)));
}

function adviceRow({setting, value, gain, gain_s_per_step, text}) {
  const gains = known(gain_s_per_step) ? [' ', element('span', {class: 'small'}, `${seconds(gain_s_per_step)} a step`)] : [];
  const named = setting ? [element('code', {}, value ? `${setting}: ${value}` : setting), ' '] : [];
  return element('li', {}, element('div', {class: 'gain'}, known(gain) ? `+${percent(gain)}` : UNKNOWN, ...gains),
                 element('div', {}, ...named, text));
}

const sameCause = (a, b) => a.cause === b.cause && a.kind === b.kind && String(a.ranks) === String(b.ranks);
const list = (id, heading, rows) => rows.length ? [element('h2', {}, heading), element('ol', {id}, ...rows)] : [];

function showVerdict({verdict, causes, advice, parts}) {
  if (!verdict) return fill('verdict', sentence('No verdict: there are no steps to judge by yet.'));
  place('verdict').style.setProperty('--cause', `var(--part-${CAUSE_PARTS[verdict.cause] ?? 'other'})`);
  fill('verdict',
    element('p', {class: 'cause'}, ...causeText(verdict)),
    element('p', {class: 'says'}, verdict.text),
    verdictFigures(verdict, parts.find(row => row.part === 'step')?.mean_s),
    ...list('causes', 'What else holds steps up', causes.filter(cause => !sameCause(cause, verdict)).map(causeRow)),
    ...list('advice', 'What to do, by expected gain of throughput', advice.map(adviceRow)));
}

// Parts and efficiencies

function barSegment({part, mean_s, share}, look) {
  const title = `${part} ${seconds(mean_s)}, ${percent(share)}`;
  const style = `flex:${share} 1 0; background:var(--part-${part}); color:${inkOn(look.parts[part])}`;
  return element('div', {style, title, 'data-part': part}, element('span', {}, title));
}

function drawBar(look) {
  const shown = report.parts.filter(row => PARTS.includes(row.part) && row.share > 0);
  place('bar').hidden = !shown.length;
  fill('bar', ...shown.map(row => barSegment(row, look)));
}

const tilesOf = e => [
  ['load balance', percent(e.load_balance), "ranks' useful time, mean over longest"],
  ['communication efficiency', percent(e.communication), 'longest useful time over run time'],
  ['parallel efficiency', percent(e.parallel), 'both of them multiplied'],
  ['scaling', percent(e.scaling), 'of what ranks would do that need not wait for each other (estimate)'],
  ['overlap', percent(e.overlap), 'of communication runs behind computing'],
  e.comm_interval_s > 0 && ['interval', seconds(e.comm_interval_s), 'from the start of one gradient synchronisation to the next'],
  ['goodput', percent(e.goodput), 'of time inside steps survives'],
  e.exposed_share > 0 && ['exposed', percent(e.exposed_share), `of the step; ${percent(e.wait_share)} is waiting for a late rank`],
  e.busbw > 0 && ['bus bandwidth', quantity(e.busbw, RATE), `algorithm's ${quantity(e.algbw, RATE)}, medians`],
  e.flops_per_s > 0 && ['computing', quantity(e.flops_per_s, FLOP_RATE), 'a rank, in sampled steps'],
].filter(Boolean);

function showEfficiency(efficiency) {
  if (!efficiency) return;
  fill('efficiency', ...tilesOf(efficiency).map(([name, value, meaning]) =>
    element('div', {}, element('dt', {}, name), element('dd', {}, value, element('span', {class: 'small'}, meaning)))));
}

function showTables() {
  for (const [id, rows, columns, none, classOf] of reportTables(report)) {
    fill(id, rows.length ? table(rows, columns, classOf) : sentence(none));
  }
}

// Charts. `missing` says in a sentence why there is nothing to draw, or ''; `option` is what ECharts draws, without those of the
// legend's `keys` that are hidden; a legend that is `fixed` hides nothing.
const charts = [STEPS_CHART, ...RANK_CHARTS, ...timelineCharts(report), LOSS_CHART].map(spec => ({...spec, hidden: new Set()}));

const keySign = ({colour, glyph}) => glyph ? element('span', {class: 'glyph'}, glyph) : swatch(colour);

function keyButton(key, spec) {
  const shown = () => String(!spec.hidden.has(key.name));
  const attributes = {type: 'button', 'aria-pressed': shown(), title: 'Shows or hides it'};
  const button = element('button', attributes, keySign(key), key.name, key.aside ?? '');
  button.addEventListener('click', () => {
    if (!spec.hidden.delete(key.name)) spec.hidden.add(key.name);
    button.setAttribute('aria-pressed', shown());
    drawOption(spec, readLook());
  });
  return button;
}

function legend(spec, look) {
  const keys = spec.keys(report, look);
  return element('div', {class: 'legend'}, ...keys.map(key => spec.fixed ? element('span', {}, keySign(key), key.name) : keyButton(key, spec)));
}

function scaleBar({colours, from, to}) {
  const ramp = element('span', {class: 'ramp', style: `background:linear-gradient(90deg, ${colours.join(', ')})`});
  return element('div', {class: 'scale'}, from, ramp, to);
}

// What was zoomed into stays so.
function drawOption(spec, look) {
  const chart = window.reportCharts[spec.id], zoomed = chart.getOption()?.dataZoom ?? [];
  const option = spec.option(report, look, chart.getWidth(), spec.hidden);
  zoomed.forEach(({start, end}, i) => Object.assign(option.dataZoom[i], {start, end}));
  chart.setOption(option, true);
}

function drawChart(spec, look) {
  const into = place(spec.id), missing = spec.missing(report);
  if (missing) return into.replaceChildren(sentence(missing));
  const heading = into.parentElement.querySelector('h2').textContent, note = spec.note?.(report);
  const plot = window.reportCharts[spec.id]?.getDom() ?? element('div', {class: 'plot', role: 'img', 'aria-label': heading});
  const around = [spec.keys && legend(spec, look), spec.scale && scaleBar(spec.scale(report)), plot, note && element('p', {class: 'small'}, note)];
  into.replaceChildren(...around.filter(Boolean));
  plot.style.height = `${spec.height(report)}px`;
  window.reportCharts[spec.id] ??= echarts.init(plot, null, {renderer: 'canvas'});
  window.reportCharts[spec.id].resize();
  drawOption(spec, look);
}

function draw() {
  window.reportReady = false;
  const look = readLook();
  drawBar(look);
  for (const spec of charts) drawChart(spec, look);
  window.reportReady = true;
}

function placeTimelines() {
  const made = timelineCharts(report).flatMap(({id, heading}) => [element('h3', {}, heading), element('div', {class: 'chart', id})]);
  place('timelines').append(...(made.length ? made : [sentence('No step has been sampled yet.')]));
}

function redrawOnChange() {
  const main = document.querySelector('main');
  let width = main.clientWidth;
  new ResizeObserver(() => {
    if (width !== main.clientWidth) draw();
    width = main.clientWidth;
  }).observe(main);
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  for (const [event, printing] of [['beforeprint', true], ['afterprint', false]]) {
    window.addEventListener(event, () => { document.documentElement.classList.toggle('print', printing); draw(); });
  }
}

showHead(report.run);
showVerdict(report);
showEfficiency(report.efficiency);
showTables();
placeTimelines();
showFoot(report.run);
draw();
redrawOnChange();
