// paint.js: what all drawing shares: colours of the page, text, a canvas in CSS pixels.

const kInk = '#1d2430', kSoft = '#667085', kFaint = '#98a1b0', kLine = '#e3e7ed', kRed = '#d92d2d';
const kExposedMark = {fill: '#fbd5d3', line: kRed, rgb: [251, 213, 211]};
const kBubbleMark = {hatched: true, rgb: [236, 238, 242]};  // rgb: where it is narrower than a pixel
const kFont = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif';
const kWidthsKept = 20000;

const kDot = ' \u00b7 ';

function font(size, weight = 400) { return `${weight} ${size}px ${kFont}`; }

function widthOf(ctx, text) { return ctx.measureText(text).width; }

// The same at a size of normal weight, kept: labels are measured again in every picture. May change the font.
const labelWidths = new Map();
function labelWidth(ctx, text, size) {
  const key = size + '|' + text;
  let width = labelWidths.get(key);
  if (width === undefined) {
    if (labelWidths.size > kWidthsKept) labelWidths.clear();
    ctx.font = font(size);
    labelWidths.set(key, width = ctx.measureText(text).width);
  }
  return width;
}

// Sets the size in CSS pixels and returns a context that draws in them.
function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
  }
  const ctx = canvas.getContext('2d');
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return ctx;
}

let hatchTile = null;
function hatchOf(ctx) {
  if (!hatchTile) {
    hatchTile = document.createElement('canvas');
    hatchTile.width = hatchTile.height = 6;
    const tile = hatchTile.getContext('2d');
    tile.fillStyle = '#f5f6f8';
    tile.fillRect(0, 0, 6, 6);
    tile.strokeStyle = '#d5dae1';
    tile.lineWidth = 1;
    tile.beginPath();
    for (const x of [-6, 0, 6]) { tile.moveTo(x, 6); tile.lineTo(x + 6, 0); }
    tile.stroke();
  }
  return ctx.createPattern(hatchTile, 'repeat');
}
