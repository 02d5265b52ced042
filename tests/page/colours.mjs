// Colours as eyes see them: contrast as WCAG has it, and how far two are apart, also for eyes without green cones.

const linear = channel => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;

// [red, green, blue], linear, of '#rrggbb' or 'rgb(…)'.
export function parse(colour) {
  const channels = colour.startsWith('#') ? [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16)) : colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  return channels.map(channel => linear(channel / 255));
}

export const luminance = ([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;

export function contrast(a, b) {
  const [dark, light] = [luminance(parse(a)), luminance(parse(b))].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

// Machado, Oliveira and Fernandes 2009, severity 1.
const EYES = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
};

function lab(rgb) {
  const [red, green, blue] = rgb;
  const f = t => t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116;
  const x = f((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047), y = f(luminance(rgb));
  const z = f((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

// CIE76: about 2 can just be told apart side by side.
export function apart(a, b, eyes) {
  const seen = colour => lab(EYES[eyes].map(row => Math.min(1, Math.max(0, row.reduce((sum, weight, i) => sum + weight * parse(colour)[i], 0)))));
  const [one, other] = [seen(a), seen(b)];
  return Math.hypot(...one.map((value, i) => value - other[i]));
}
