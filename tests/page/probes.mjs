// What the test asks of a page. Each function is sent into the page, so it stands on its own.

// By chart: its points, its plot's width and its box', the share of pixels that are inked, and how many have each colour.
export function charts() {
  return Object.fromEntries(Object.entries(window.reportCharts).map(([id, chart]) => {
    const colours = {}, plot = chart.getDom();
    let inked = 0, all = 0;
    for (const canvas of plot.querySelectorAll('canvas')) {
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
      copy.drawImage(canvas, 0, 0);
      const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
      all = Math.max(all, data.length / 4);
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] === 0) continue;
        ++inked;
        const colour = `#${((1 << 24) | (data[at] << 16) | (data[at + 1] << 8) | data[at + 2]).toString(16).slice(1)}`;
        colours[colour] = (colours[colour] ?? 0) + 1;
      }
    }
    const seen = Object.fromEntries(Object.entries(colours).filter(([, pixels]) => pixels >= 12));
    const option = chart.getOption();
    return [id, {points: option.series.map(series => series.data.length), width: plot.querySelector('canvas').clientWidth,
                 box: plot.parentElement.clientWidth, inked: inked / all, colours: seen, text: option.textStyle.color,
                 labels: [...option.xAxis, ...option.yAxis].filter(axis => axis.show !== false).map(axis => axis.axisLabel.color)}];
  }));
}

export const look = () => {
  const css = getComputedStyle(document.documentElement), colour = name => css.getPropertyValue(`--${name}`).trim();
  const parts = ['data_wait', 'forward', 'backward', 'comm_exposed', 'optimizer', 'other'];
  return {parts: Object.fromEntries(parts.map(part => [part, colour(`part-${part}`)])), metrics: [0, 1, 2, 3].map(i => colour(`metric-${i}`)),
          text: colour('text'), muted: colour('muted'), card: colour('card'), bars: colour('bars')};
};

// The text's colour, and that in which it is drawn, as soon as an event was handled: nothing waits for a printer.
export function afterEvent(name) {
  window.dispatchEvent(new Event(name));
  return {text: getComputedStyle(document.documentElement).getPropertyValue('--text').trim(), drawn: window.reportCharts.steps.getOption().textStyle.color};
}

// How bright each row of the waiting chart is, from 0 to 1.
export function rowBrightness() {
  const chart = window.reportCharts.waiting, canvas = chart.getDom().querySelector('canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
  const [cells] = chart.getOption().series, sums = {};
  for (const [column, row] of cells.data) {
    const [x, y] = chart.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, [column, row]).map(Math.round), at = 4 * (y * canvas.width + x);
    (sums[row] ??= []).push((0.3 * data[at] + 0.6 * data[at + 1] + 0.1 * data[at + 2]) / 255);
  }
  return Object.values(sums).map(list => list.reduce((sum, value) => sum + value, 0) / list.length);
}

// Every text that shows: its colour, and that of the ground it stands on.
export function texts() {
  const clear = colour => colour === 'transparent' || colour.endsWith(', 0)');
  const ground = element => element && (clear(getComputedStyle(element).backgroundColor) ? ground(element.parentElement) : getComputedStyle(element).backgroundColor);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const {parentElement: element, data} = walker.currentNode;
    if (!data.trim() || !element.getClientRects().length || element.closest('script, style, noscript, .tip')) continue;
    found.push({text: data.trim().slice(0, 40), colour: getComputedStyle(element).color, ground: ground(element)});
  }
  return found;
}

export const layout = () => ({
  wide: document.documentElement.scrollWidth, room: document.documentElement.clientWidth,
  out: [...document.querySelectorAll('h1, h2, h3, p, dl, section, canvas, .wide, .legend')].filter(box => box.getClientRects().length
    && (box.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5 || box.getBoundingClientRect().left < -0.5)).map(box => box.id || box.tagName),
  spill: [...document.querySelectorAll('header, section')].filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.id || box.textContent.slice(0, 30)),
});

export const table = id => {
  const cells = row => [...row.children], body = [...document.querySelectorAll(`#${id} tbody tr`)];
  const head = [...document.querySelectorAll(`#${id} th`)].map(th => ({name: th.firstChild.data, unit: th.querySelector('.unit').textContent.trim()}));
  const numbers = body.flatMap(row => cells(row).filter(td => !td.classList.contains('text')));
  return {head, rows: body.map(row => cells(row).map(td => td.textContent)), none: document.querySelector(`#${id} .none`)?.textContent ?? '',
          aligned: numbers.every(td => getComputedStyle(td).textAlign === 'right' && getComputedStyle(td).fontVariantNumeric.includes('tabular-nums'))};
};

export const words = () => ({
  head: document.querySelector('#head').innerText, title: document.title, warnings: [...document.querySelectorAll('.warning')].map(p => p.textContent),
  cause: document.querySelector('#verdict .cause')?.textContent ?? '', says: document.querySelector('#verdict .says')?.textContent ?? '',
  figures: document.querySelector('#verdict .figures')?.textContent ?? '', verdict: document.querySelector('#verdict').textContent,
  causes: [...document.querySelectorAll('#causes li')].map(li => li.innerText), advice: [...document.querySelectorAll('#advice li')].map(li => li.innerText),
  bar: [...document.querySelectorAll('#bar > div')].map(div => ({part: div.dataset.part, width: div.getBoundingClientRect().width})),
  barShown: document.querySelector('#bar').getClientRects().length > 0,
  tiles: Object.fromEntries([...document.querySelectorAll('#efficiency > div')].map(div => [div.querySelector('dt').textContent, div.querySelector('dd').firstChild.data])),
  headings: [...document.querySelectorAll('h3')].map(h3 => h3.textContent), scale: document.querySelector('#waiting .scale')?.textContent ?? '',
  legends: Object.fromEntries([...document.querySelectorAll('.chart')].map(chart => [chart.id, chart.querySelector('.legend')?.textContent ?? ''])),
  none: Object.fromEntries([...document.querySelectorAll('.chart, #timelines')].map(box => [box.id, box.querySelector(':scope > .none')?.textContent ?? ''])),
  markup: document.querySelectorAll('main b, main i, main img, main script').length, hacked: window.hacked === 1,
  text: document.body.textContent,
});
