// colours.js: what colour a span has. Compute: a hue per pass, a lightness per kind. Transfers: hues of their own.

const kHue = {forward: [214, 68], input_gradient: [158, 48], weight_gradient: [36, 82], backward: [142, 40]};
const kLightness = {  // of compute kinds
  attention: 52, experts: 43, mlp: 36, shared: 64, head: 28, embed: 74,
  forward: 56, backward: 42, input_gradient: 50, weight_gradient: 58,
};
const kBoundary = {gradient_norm: [220, 10, 62], commit: [220, 12, 44], update: [262, 22, 56], pack_weights: [262, 16, 70]};
const kTransfer = {
  dispatch: [275, 42, 62], combine: [322, 46, 62],
  send: [203, 22, 56], receive: [203, 22, 68], swap: [203, 26, 50],
  reduce_gradients: [16, 44, 54], gather_weights: [16, 40, 68],
};
const kPassShift = {forward: 7, input_gradient: -5, weight_gradient: 0};  // of a transfer's lightness

const kFamilies = [
  {name: 'forward', holds: (kind, pass) => isCompute(kind) && pass === 'forward'},
  {name: 'backward', holds: (kind, pass) => isCompute(kind) && kind === 'backward'},
  {name: 'input gradient', holds: (kind, pass) => isCompute(kind) && pass === 'input_gradient'},
  {name: 'weight gradient', holds: (kind, pass) => isCompute(kind) && pass === 'weight_gradient'},
  {name: 'exchanges', holds: kind => kind === 'dispatch' || kind === 'combine'},
  {name: 'messages', holds: kind => kind === 'send' || kind === 'receive' || kind === 'swap'},
  {name: 'collectives', holds: kind => kind === 'reduce_gradients' || kind === 'gather_weights' || kind === 'commit'},
  {name: 'boundary', holds: () => true},
];

function isCompute(kind) { return kind in kLightness; }
function isSlot(kind) { return kind === 'forward' || kind === 'backward' || kind.endsWith('_gradient'); }

function familyOf(kind, pass) { return kFamilies.findIndex(family => family.holds(kind, pass)); }

// A kind that this page does not know gets a colour from its letters, the same each time.
function hashedHue(kind) {
  let sum = 7;
  for (const letter of kind) sum = (sum * 31 + letter.charCodeAt(0)) % 360;
  return [sum, 24, 60];
}

function hslOf(kind, pass) {
  if (isCompute(kind)) {
    const [hue, saturation] = kHue[kind === 'backward' ? 'backward' : pass];
    return [hue, saturation, kLightness[kind]];
  }
  if (kind in kBoundary) return kBoundary[kind];
  const [hue, saturation, lightness] = kTransfer[kind] || hashedHue(kind);
  return [hue, saturation, lightness + (kind in kTransfer ? kPassShift[pass] : 0)];
}

// Deeper chunks of a position are paler. Text on it is white where that reads better than ink, by relative luminance.
function colourOf(kind, pass, chunk) {
  const [hue, saturation, lightness] = hslOf(kind, pass);
  const rgb = rgbOf(hue, saturation, lightness + (88 - lightness) * Math.min(0.6, 0.34 * chunk));
  const [r, g, b] = rgb.map(value => value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return {rgb, fill: `rgb(${rgb.join(',')})`, ink: 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.32 ? '#fff' : '#1d2430'};
}

// Hue in degrees, the others in percent; Source: CSS Color Module Level 4, section 7.
function rgbOf(hue, saturation, lightness) {
  const s = saturation / 100, l = lightness / 100;
  return [0, 8, 4].map(n => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

// The colours a trace uses, and per span the index of its own.
function setColours(trace) {
  const known = new Map();
  trace.colours = [];
  trace.colour = new Uint16Array(trace.count);
  for (let i = 0; i < trace.count; ++i) {
    const chunk = isCompute(trace.kinds[trace.kind[i]]) ? Math.min(trace.chunk[i], 3) : 0;
    const key = (trace.kind[i] * 4 + trace.pass[i]) * 4 + chunk;
    if (!known.has(key)) {
      const kind = trace.kinds[trace.kind[i]], pass = trace.passes[trace.pass[i]];
      known.set(key, trace.colours.length);
      trace.colours.push({kind, pass, chunk, family: familyOf(kind, pass), ...colourOf(kind, pass, chunk)});
    }
    trace.colour[i] = known.get(key);
  }
}
