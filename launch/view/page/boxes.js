// boxes.js: the spans of a band as boxes, and the marks of bubbles and exposed transfers. Reads the state, changes nothing.

// What is narrower than a pixel adds to the columns of the picture: how much of each is covered, and by which colour
// most (a weighted majority vote).
class Columns {
  constructor(width) {
    this.cover = new Float32Array(width);
    this.vote = new Float32Array(width);
    this.colour = new Int32Array(width);
    this.low = width;
    this.high = -1;
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = 1;
    this.rowContext = canvas.getContext('2d', {willReadFrequently: true});
  }
  add(x0, x1, colour, weight) {
    const last = Math.min(this.cover.length - 1, Math.floor(x1));
    for (let x = Math.max(0, Math.floor(x0)); x <= last; ++x) {
      const share = (Math.min(x1, x + 1) - Math.max(x0, x)) * weight;
      if (share <= 0) continue;
      this.cover[x] += share;
      if (this.colour[x] === colour) this.vote[x] += share;
      else if (this.vote[x] >= share) this.vote[x] -= share;
      else { this.colour[x] = colour; this.vote[x] = share - this.vote[x]; }
      this.low = Math.min(this.low, x);
      this.high = Math.max(this.high, x);
    }
  }
  // Draws them, as one row of pixels that is stretched to the height, and forgets them.
  flush(ctx, left, y, height, rgbOf) {
    if (this.high < this.low) return;
    const width = this.high - this.low + 1;
    const row = this.rowContext.createImageData(width, 1), pixels = row.data;
    for (let k = 0; k < width; ++k) {
      const cover = this.cover[this.low + k];
      if (cover <= 0) continue;
      const rgb = rgbOf(this.colour[this.low + k]);
      pixels[4 * k] = rgb[0];
      pixels[4 * k + 1] = rgb[1];
      pixels[4 * k + 2] = rgb[2];
      pixels[4 * k + 3] = 255 * (0.25 + 0.75 * Math.min(1, cover));
    }
    this.rowContext.putImageData(row, 0, 0);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.rowContext.canvas, 0, 0, width, 1, left + this.low, y, width, height);
    this.cover.fill(0);
    this.vote.fill(0);
    this.low = this.cover.length;
    this.high = -1;
  }
}

let keptColumns = null;
function columnsFor(width) {
  if (!keptColumns || keptColumns.cover.length !== width) keptColumns = new Columns(width);
  return keptColumns;
}

function isShown(state, trace, i) {
  if (state.kindAlone !== null) {
    const colour = trace.colours[trace.colour[i]];
    return colour.kind + '/' + colour.pass === state.kindAlone;
  }
  if (state.pin && state.pin.microbatch >= 0)
    return trace !== state.pin.trace || trace.microbatch[i] === state.pin.microbatch;
  return true;
}

// The lines of the longest text that fits the box, and their size. Slots show the micro-batch alone: their colour says
// the rest.
function labelOf(ctx, trace, i, width, height) {
  const microbatch = trace.microbatch[i], most = height >= 26 ? 12 : height >= 13 ? 11 : 9.5;
  if (!isSlot(trace.kinds[trace.kind[i]]) && width > 36) {
    const name = spanName(trace, i);
    const texts = [name, name.replace(/ l\d+/, '')];
    if (width > 120) texts.unshift(name + '   ' + timeText(trace.stop[i] - trace.start[i], trace.relative, 3));
    const text = texts.find(one => labelWidth(ctx, one, most) <= width - 6);
    if (text !== undefined) return {lines: [text], size: most};
    const space = name.indexOf(' '), lines = [name.slice(0, space), name.slice(space + 1)];
    if (height >= 32 && space > 0 && lines.every(line => labelWidth(ctx, line, most) <= width - 4)) return {lines, size: most};
  }
  if (microbatch < 0) return null;
  const text = String(microbatch);
  for (const size of [most, 9.5, 8.5]) {
    if (size <= most && labelWidth(ctx, text, size) <= width - 1.5) return {lines: [text], size};
  }
  return null;
}

function paintBoxes(ctx, state, plot, band, columns) {
  const {group} = band, {trace} = group.rank;
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  const labels = [];
  for (let i = firstSpanAfter(trace, group, t0); i < group.end && trace.start[i] < t1; ++i) {
    const x0 = (trace.start[i] - t0) * scale, x1 = (trace.stop[i] - t0) * scale;
    if (x1 < 0) continue;
    const shown = isShown(state, trace, i), tracks = trace.tracks[i];
    if (x1 - x0 < 1.6) {
      columns.add(x0, x1, trace.colour[i], (shown ? 1 : 0.15) / tracks);
      continue;
    }
    const left = Math.max(0, x0), right = Math.min(plot.width, x1);
    const gap = x1 - x0 > 4 ? 0.8 : x1 - x0 > 2.5 ? 0.4 : 0;
    const height = band.height / tracks, y = band.y + trace.track[i] * height;
    ctx.globalAlpha = shown ? 1 : 0.15;
    ctx.fillStyle = trace.colours[trace.colour[i]].fill;
    ctx.fillRect(plot.left + left, y, right - left - gap, height - (tracks > 1 ? 0.5 : 0));
    if (shown && right - left > 6 && height >= 9) labels.push([i, left, right - gap, y, height]);
  }
  ctx.globalAlpha = 1;
  columns.flush(ctx, plot.left, band.y, band.height, colour => trace.colours[colour].rgb);
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  const fitting = labels.map(([i, left, right, y, height]) => ({i, x: plot.left + (left + right) / 2, y: y + height / 2 + 0.5,
    ...labelOf(ctx, trace, i, right - left, height)}));
  let size = 0, ink = '';
  for (const label of fitting) {
    if (!label.lines) continue;
    if (label.size !== size) ctx.font = font(size = label.size);
    if (trace.colours[trace.colour[label.i]].ink !== ink) ctx.fillStyle = ink = trace.colours[trace.colour[label.i]].ink;
    label.lines.forEach((line, n) => ctx.fillText(line, label.x, label.y + (n - (label.lines.length - 1) / 2) * (size + 4)));
  }
}

// A mark over the compute band for every stretch in view.
function paintStretches(ctx, state, plot, stretches, band, mark, columns) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  const fill = mark.hatched ? hatchOf(ctx) : mark.fill;
  for (let i = stretches.firstAfter(t0); i < stretches.start.length && stretches.start[i] < t1; ++i) {
    const x0 = Math.max(0, (stretches.start[i] - t0) * scale), x1 = Math.min(plot.width, (stretches.end[i] - t0) * scale);
    if (x1 - x0 < 1) { columns.add(x0, x1, 0, 1); continue; }
    ctx.fillStyle = fill;
    ctx.fillRect(plot.left + x0, band.y, x1 - x0, band.height);
    if (mark.line) {
      ctx.fillStyle = mark.line;
      ctx.fillRect(plot.left + x0, band.y + band.height - 2, x1 - x0, 2);
    }
  }
  columns.flush(ctx, plot.left, band.y, band.height, () => mark.rgb);
}

function paintOutline(ctx, state, plot, band, i, colour, width) {
  const {trace} = band.group.rank;
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  const x0 = Math.max(-2, (trace.start[i] - t0) * scale), x1 = Math.min(plot.width + 2, (trace.stop[i] - t0) * scale);
  if (x1 < 0 || x0 > plot.width) return;
  const height = band.height / trace.tracks[i];
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.strokeRect(plot.left + x0, band.y + trace.track[i] * height, Math.max(1, x1 - x0), height);
}

// Those of the boxes that the pointer or a click has chosen, and of their pair.
function paintOutlines(ctx, state, plot, row) {
  const {hover, pin} = state;
  for (const band of row.bands) {
    const {group} = band;
    if (!group) continue;
    for (const i of state.mates.get(group) || []) paintOutline(ctx, state, plot, band, i, kSoft, 1);
    if (hover && hover.group === group) paintOutline(ctx, state, plot, band, hover.i, kInk, 1.5);
    if (pin && pin.trace === row.rank.trace && pin.i >= group.first && pin.i < group.end)
      paintOutline(ctx, state, plot, band, pin.i, kInk, 2);
  }
}
