// paint.js: the timeline and the overview on their canvases. Reads the state, changes nothing.

const kInk = '#1d2430', kSoft = '#667085', kFaint = '#98a1b0', kLine = '#e3e7ed', kRed = '#d92d2d';
const kExposedMark = {fill: '#fbd5d3', line: kRed, rgb: [251, 213, 211]};
const kBubbleMark = {hatched: true, rgb: [236, 238, 242]};  // rgb: where it is narrower than a pixel
const kFont = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif';
const kWidthsKept = 20000;

function font(size, weight = 400) { return `${weight} ${size}px ${kFont}`; }

const textWidths = new Map();
function widthOf(ctx, text) {
  const key = ctx.font + '|' + text;
  let width = textWidths.get(key);
  if (width === undefined) {
    if (textWidths.size > kWidthsKept) textWidths.clear();
    textWidths.set(key, width = ctx.measureText(text).width);
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

// --- boxes -----------------------------------------------------------------------------------------------------------

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
  ctx.font = font(most);
  if (!isSlot(trace.kinds[trace.kind[i]]) && width > 36) {
    const name = spanName(trace, i);
    const texts = [name, name.replace(/ l\d+/, '')];
    if (width > 120) texts.unshift(name + '   ' + timeText(trace.stop[i] - trace.start[i], trace.relative, 3));
    const text = texts.find(one => widthOf(ctx, one) <= width - 6);
    if (text !== undefined) return {lines: [text], size: most};
    const space = name.indexOf(' '), lines = [name.slice(0, space), name.slice(space + 1)];
    if (height >= 32 && space > 0 && lines.every(line => widthOf(ctx, line) <= width - 4)) return {lines, size: most};
  }
  if (microbatch < 0) return null;
  const text = String(microbatch);
  for (const size of [most, 9.5, 8.5]) {
    if (size > most) continue;
    ctx.font = font(size);
    if (widthOf(ctx, text) <= width - 1.5) return {lines: [text], size};
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
  for (const [i, left, right, y, height] of labels) {
    const label = labelOf(ctx, trace, i, right - left, height);
    if (!label) continue;
    ctx.font = font(label.size);
    ctx.fillStyle = trace.colours[trace.colour[i]].ink;
    label.lines.forEach((line, n) => {
      const offset = (n - (label.lines.length - 1) / 2) * (label.size + 4);
      ctx.fillText(line, plot.left + (left + right) / 2, y + height / 2 + 0.5 + offset);
    });
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

// --- around the boxes ------------------------------------------------------------------------------------------------

function paintStrip(ctx, state, plot, block) {
  const {trace} = block, lower = block.y + block.strip - 14, upper = lower - 18;
  ctx.textBaseline = 'middle';
  if (state.traces.length > 1) {
    ctx.textAlign = 'left';
    ctx.fillStyle = kInk;
    ctx.font = font(13, 600);
    ctx.fillText(trace.title, kMargin, upper);
    paintBadge(ctx, kMargin + widthOf(ctx, trace.title) + 12, upper, trace.predicted);
  }
  ctx.textAlign = 'left';
  ctx.font = font(12);
  ctx.fillStyle = kSoft;
  ctx.fillText(summaryOf(trace), kMargin, lower);
  const sums = {compute: 0, exposed: 0, bubble: 0, hidden: 0, time: 0};
  for (const row of block.rows) {
    const part = sumsInView(state, row.rank);
    for (const key of Object.keys(sums)) sums[key] += part[key];
  }
  ctx.font = font(11);
  paintColumns(ctx, state, plot, upper, column => column.name, kFaint);
  ctx.font = font(12, 600);
  paintColumns(ctx, state, plot, lower, column => columnText(column, sums, trace), kInk);
}

function summaryOf(trace) {
  const rankTime = trace.end * trace.ranks.length, {total} = trace;
  const parts = [timeText(trace.end, trace.relative) + (trace.relative ? ' units' : ''),
    `${trace.ranks.length} rank${trace.ranks.length === 1 ? '' : 's'}`, `${trace.count.toLocaleString('en')} spans`,
    `${percentText(total.compute, rankTime)} computing`, `${percentText(total.idle, rankTime)} bubbles`];
  if (total.transfer > 0)
    parts.push(`${percentText(total.exposed, rankTime)} exposed transfers`, `${percentText(total.hidden, total.transfer)} of transfers hidden`);
  return parts.join(' \u00b7 ');
}

function paintBadge(ctx, x, y, predicted) {
  const text = predicted ? 'prediction' : 'measured';
  ctx.font = font(11, 600);
  ctx.beginPath();
  ctx.roundRect(x, y - 9, widthOf(ctx, text) + 16, 18, 9);
  ctx.fillStyle = predicted ? '#fff1d6' : '#dcf5ea';
  ctx.fill();
  ctx.strokeStyle = predicted ? '#f1d29b' : '#a5dcc4';
  ctx.lineWidth = 1;
  ctx.stroke();
  ctx.fillStyle = predicted ? '#8a5300' : '#0b6b4f';
  ctx.textAlign = 'left';
  ctx.fillText(text, x + 8, y + 0.5);
}

function columnText(column, sums, trace) {
  const transfers = sums.hidden + sums.exposed;
  switch (column.name) {
    case 'computing': return percentText(sums.compute, sums.time);
    case 'exposed': return transfers > 0 ? timeText(sums.exposed, trace.relative, 3, true) : '\u2013';
    case 'bubble': return timeText(sums.bubble, trace.relative, 3, true);
    default: return percentText(sums.hidden, transfers);
  }
}

function paintColumns(ctx, state, plot, y, textOf, colour) {
  ctx.textAlign = 'right';
  ctx.fillStyle = colour;
  let x = plot.left + plot.width;
  for (const column of columnsOf(state.traces)) ctx.fillText(textOf(column), x += column.width, y);
}

// A rank's account over what is in view; the whole step's is the one that came with the trace.
function sumsInView(state, rank) {
  const {trace, account} = rank, {t0, t1} = state.view;
  if (t0 <= 0 && t1 >= trace.end)
    return {compute: account.compute, exposed: account.exposed, bubble: account.idle, hidden: account.hidden, time: trace.end};
  const time = Math.max(0, Math.min(t1, trace.end) - Math.max(0, t0));
  const exposed = rank.exposed.sumWithin(t0, t1), bubble = rank.bubbles.sumWithin(t0, t1);
  return {compute: time - exposed - bubble, exposed, bubble, hidden: rank.hidden.sumWithin(t0, t1), time};
}

function paintRowFrame(ctx, state, plot, row, number) {
  if (number % 2 === 0) {
    ctx.fillStyle = '#f8f9fb';
    ctx.fillRect(0, row.y, state.width, row.height);
  }
  ctx.fillStyle = '#eceff3';
  ctx.fillRect(0, row.y, state.width, 1);
  const band = row.bands[0];
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  ctx.fillStyle = kInk;
  ctx.font = font(12, 500);
  const y = band.lane === 'compute' ? band.y + band.height / 2 + 0.5 : row.y + row.height / 2;
  ctx.fillText('rank ' + row.rank.rank, kMargin, y);
  ctx.font = font(10);
  ctx.textAlign = 'right';
  ctx.fillStyle = kFaint;
  for (const one of row.bands)
    if (one.lane !== 'compute' && one.height >= 10) ctx.fillText(one.lane, plot.left - 8, one.y + one.height / 2 + 0.5);
  ctx.font = font(12);
  const sums = sumsInView(state, row.rank);
  paintColumns(ctx, state, plot, y, column => columnText(column, sums, row.rank.trace), kInk);
}

function paintRow(ctx, state, plot, row, columns) {
  for (const band of row.bands) {
    if (band.lane === 'compute') {
      paintStretches(ctx, state, plot, row.rank.bubbles, band, kBubbleMark, columns);
      paintStretches(ctx, state, plot, row.rank.exposed, band, kExposedMark, columns);
    }
    if (band.group) paintBoxes(ctx, state, plot, band, columns);
  }
}

function paintAxis(ctx, state, plot, width) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0), relative = state.traces[0].relative;
  ctx.fillStyle = '#fff';
  ctx.fillRect(0, 0, width, kAxis);
  ctx.font = font(11);
  ctx.textBaseline = 'middle';
  ctx.fillStyle = kSoft;
  for (const {t, text} of axisSteps(t0, t1, plot.width, 96, relative)) {
    const x = plot.left + (t - t0) * scale, half = widthOf(ctx, text) / 2;
    ctx.textAlign = 'center';
    ctx.fillText(text, Math.min(plot.left + plot.width - half, Math.max(plot.left + half, x)), 12);
    ctx.fillRect(Math.round(x), kAxis - 4, 1, 4);
  }
  ctx.textAlign = 'left';
  ctx.fillText(relative ? 'units' : 'time', kMargin, 12);
  ctx.textAlign = 'right';
  ctx.fillText(isWhole(state) ? 'sums: whole step' : 'sums: in view', width - kMargin, 12);
  ctx.fillStyle = kLine;
  ctx.fillRect(0, kAxis - 0.5, width, 1);
}

function isWhole(state) { return state.view.t0 <= 0 && state.view.t1 >= state.end; }

function paintGrid(ctx, state, plot, block) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  ctx.fillStyle = 'rgba(29, 36, 48, .07)';
  for (const {t} of axisSteps(t0, t1, plot.width, 96, state.traces[0].relative))
    ctx.fillRect(Math.round(plot.left + (t - t0) * scale), block.y + block.strip, 1, block.height - block.strip);
}

// The end of each trace, where it is before the end of the picture.
function paintEnd(ctx, state, plot, block) {
  const {t0, t1} = state.view, end = block.trace.end;
  if (end <= t0 || end >= t1 || end === state.end) return;
  const x = Math.round(plot.left + (end - t0) * plot.width / (t1 - t0));
  ctx.fillStyle = kSoft;
  ctx.fillRect(x, block.rows[0].y, 1, block.height - block.strip);
}

function paintMarked(ctx, state, plot, height) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  if (state.marked) {
    const x0 = plot.left + (Math.min(state.marked.from, state.marked.to) - t0) * scale;
    const x1 = plot.left + (Math.max(state.marked.from, state.marked.to) - t0) * scale;
    ctx.fillStyle = 'rgba(47, 111, 222, .12)';
    ctx.fillRect(x0, kAxis, x1 - x0, height);
    ctx.fillStyle = '#2f6fde';
    ctx.fillRect(x0, kAxis, 1, height);
    ctx.fillRect(x1 - 1, kAxis, 1, height);
    paintTag(ctx, plot, (x0 + x1) / 2, timeText(Math.abs(state.marked.to - state.marked.from), state.traces[0].relative));
  } else if (state.cursor !== null) {
    const x = Math.round(plot.left + (state.cursor - t0) * scale);
    ctx.fillStyle = 'rgba(29, 36, 48, .35)';
    ctx.fillRect(x, kAxis, 1, height);
    paintTag(ctx, plot, x, timeText(state.cursor, state.traces[0].relative, 6));
  }
}

function paintTag(ctx, plot, x, text) {
  ctx.font = font(11, 500);
  const half = widthOf(ctx, text) / 2 + 6;
  x = Math.min(plot.left + plot.width - half, Math.max(plot.left + half, x));
  ctx.fillStyle = kInk;
  ctx.fillRect(x - half, 3, 2 * half, 18);
  ctx.fillStyle = '#fff';
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  ctx.fillText(text, x, 12.5);
}

function paintTimeline(canvas, state) {
  const {width, height, scroll, layout} = state;
  const ctx = prepare(canvas, width, height);
  const plot = plotOf(state);
  const columns = columnsFor(Math.ceil(plot.width));
  ctx.save();
  ctx.translate(0, kAxis - scroll);
  const top = scroll, bottom = scroll + height - kAxis;
  for (const block of layout.blocks) {
    if (block.y > bottom || block.y + block.height < top) continue;
    if (block.y + block.strip > top) paintStrip(ctx, state, plot, block);
    const rows = block.rows.filter(row => row.y <= bottom && row.y + row.height >= top);
    for (const row of rows) paintRowFrame(ctx, state, plot, row, block.rows.indexOf(row));
    paintGrid(ctx, state, plot, block);
    for (const row of rows) paintRow(ctx, state, plot, row, columns);
    for (const row of rows) paintOutlines(ctx, state, plot, row);
    paintEnd(ctx, state, plot, block);
  }
  ctx.restore();
  paintAxis(ctx, state, plot, width);
  paintMarked(ctx, state, plot, height - kAxis);
}

function plotOf(state) {
  const right = columnsOf(state.traces).reduce((sum, column) => sum + column.width, kMargin);
  return {left: kLeft, width: Math.max(50, state.width - kLeft - right)};
}

// --- overview --------------------------------------------------------------------------------------------------------

const kOverviewHeight = 46, kOverviewPad = 5;
const kProfile = ['forward', 'input_gradient', 'weight_gradient', 'other', 'exposed'];

// Per column of the picture: which share of all ranks computes in which pass, and which waits for a transfer.
function profileOf(trace, whole, width) {
  const profile = kProfile.map(() => new Float32Array(width));
  const scale = width / (whole.t1 - whole.t0), share = 1 / trace.ranks.length;
  const add = (into, start, stop, weight) => {
    const x0 = (start - whole.t0) * scale, x1 = Math.min(width, (stop - whole.t0) * scale);
    for (let x = Math.floor(x0); x < x1; ++x) into[x] += (Math.min(x1, x + 1) - Math.max(x0, x)) * weight;
  };
  for (const rank of trace.ranks) {
    for (const group of rank.groups) {
      if (group.lane !== 'compute') continue;
      for (let i = group.first; i < group.end; ++i) {
        const into = isCompute(trace.kinds[trace.kind[i]]) ? profile[trace.pass[i]] : profile[3];
        add(into, trace.start[i], trace.stop[i], share / trace.tracks[i]);
      }
    }
    for (let i = 0; i < rank.exposed.start.length; ++i) add(profile[4], rank.exposed.start[i], rank.exposed.end[i], share);
  }
  return profile;
}

// Its picture, drawn once per width: the shares of each column on top of each other.
function profilePicture(trace, whole, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (trace.picture && trace.picture.width === width * ratio) return trace.picture;
  const picture = trace.picture = document.createElement('canvas');
  picture.width = width * ratio;
  picture.height = height * ratio;
  const ctx = picture.getContext('2d');
  const fills = [...['forward', 'input_gradient', 'weight_gradient'].map(pass => colourOf('attention', pass, 0).fill),
    colourOf('update', 'forward', 0).fill, '#e98c86'];
  const profile = profileOf(trace, whole, picture.width);
  for (let x = 0; x < picture.width; ++x) {
    let y = picture.height;
    profile.forEach((shares, k) => {
      ctx.fillStyle = fills[k];
      ctx.fillRect(x, y - shares[x] * picture.height, 1, shares[x] * picture.height);
      y -= shares[x] * picture.height;
    });
  }
  return picture;
}

function paintOverview(canvas, state) {
  const {width, traces, view} = state, plot = plotOf(state), whole = wholeView();
  const xOf = t => plot.left + Math.min(1, Math.max(0, (t - whole.t0) / (whole.t1 - whole.t0))) * plot.width;
  const ctx = prepare(canvas, width, traces.length * kOverviewHeight);
  traces.forEach((trace, n) => {
    const top = n * kOverviewHeight + kOverviewPad, height = kOverviewHeight - 2 * kOverviewPad;
    ctx.fillStyle = '#f1f3f6';
    ctx.fillRect(xOf(0), top, xOf(trace.end) - xOf(0), height);
    ctx.drawImage(profilePicture(trace, whole, Math.floor(plot.width), height), plot.left, top, Math.floor(plot.width), height);
    ctx.fillStyle = kFaint;
    ctx.font = font(11);
    ctx.textAlign = 'left';
    ctx.textBaseline = 'middle';
    ctx.fillText('all ranks', kMargin, top + height / 2);
  });
  const x0 = xOf(view.t0), x1 = xOf(view.t1);
  const bottom = traces.length * kOverviewHeight;
  if (!isWhole(state)) {
    ctx.fillStyle = 'rgba(255, 255, 255, .62)';
    ctx.fillRect(plot.left, 0, x0 - plot.left, bottom);
    ctx.fillRect(x1, 0, plot.left + plot.width - x1, bottom);
    ctx.strokeStyle = '#2f6fde';
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x0, 1, Math.max(2, x1 - x0), bottom - 2);
  }
}
