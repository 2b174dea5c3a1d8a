// format.js: figures as text.

const kTimeUnits = [{size: 1e6, name: 's'}, {size: 1e3, name: 'ms'}, {size: 1, name: '\u00b5s'}, {size: 1e-3, name: 'ns'}];

// `digits` significant digits, no exponent; without trailing zeros unless `full`.
function plain(value, digits = 4, full = false) {
  if (value === 0) return '0';
  const places = Math.max(0, Math.min(9, digits - 1 - Math.floor(Math.log10(Math.abs(value)))));
  const text = value.toFixed(places);
  return places > 0 && !full ? text.replace(/\.?0+$/, '') : text;
}

function timeText(time, relative, digits = 4, full = false) {
  if (relative) return plain(time, digits + 1);
  if (time === 0) return '0';
  const unit = kTimeUnits.find(u => Math.abs(time) >= u.size * 0.9995) || kTimeUnits[kTimeUnits.length - 1];
  return plain(time / unit.size, digits, full) + ' ' + unit.name;
}

function percentText(part, whole) {
  if (!(whole > 0)) return '\u2013';
  const share = 100 * part / whole;
  return (share >= 99.95 || share < 0.005 ? share.toFixed(0) : share.toFixed(1)) + '%';
}

function bytesText(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let unit = 0;
  for (; Math.abs(bytes) >= 999.5 && unit + 1 < units.length; ++unit) bytes /= 1000;
  return (unit === 0 ? bytes.toFixed(0) : plain(bytes, 3)) + ' ' + units[unit];
}

// Round steps for an axis, so that marks are at least `gap` pixels apart.
function axisSteps(t0, t1, width, gap, relative) {
  const least = (t1 - t0) * gap / width;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= least * 0.9999) || 10 * power;
  const unit = relative ? {size: 1, name: ''} : kTimeUnits.find(u => t1 >= u.size) || kTimeUnits[3];
  const places = Math.max(0, Math.min(9, -Math.floor(Math.log10(step / unit.size) + 1e-9)));
  const marks = [];
  for (let k = Math.ceil(t0 / step - 1e-9); k * step <= t1 + step * 1e-9; ++k)
    marks.push({t: k * step, text: (k * step / unit.size).toFixed(places) + (unit.name ? ' ' + unit.name : '')});
  return marks;
}

function escapeHtml(text) {
  return String(text).replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'}[c]));
}
