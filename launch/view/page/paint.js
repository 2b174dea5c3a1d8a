// paint.js: the timeline and the overview on their canvases. Reads the state, changes nothing.

const kInk = '#1d2430', kSoft = '#667085', kFaint = '#98a1b0', kLine = '#e3e7ed', kRed = '#d92d2d';
const kExposedFill = '#fbd5d3';
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
  // Draws and forgets them: neighbours of one colour and about one strength at once.
  flush(ctx, left, y, height, fillOf) {
    for (let x = this.low; x <= this.high;) {
      const strength = Math.min(8, Math.ceil(this.cover[x] * 8)), colour = this.colour[x];
      const first = x;
      while (x <= this.high && this.colour[x] === colour && Math.min(8, Math.ceil(this.cover[x] * 8)) === strength) ++x;
      if (strength === 0) continue;
      ctx.globalAlpha = strength / 8;
      ctx.fillStyle = fillOf(colour);
      ctx.fillRect(left + first, y, x - first, height);
    }
    ctx.globalAlpha = 1;
    this.cover.fill(0);
    this.vote.fill(0);
    this.low = this.cover.length;
    this.high = -1;
  }
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

// The longest text that fits the box; numbers alone in slots, whose colour says the rest.
function labelOf(ctx, trace, i, width) {
  const kind = trace.kinds[trace.kind[i]], microbatch = trace.microbatch[i];
  const texts = [];
  if (!isSlot(kind) && width > 40) {
    const name = spanName(trace, i);
    if (width > 120) texts.push(name + '   ' + timeText(trace.stop[i] - trace.start[i], trace.relative, 3));
    texts.push(name);
    if (microbatch >= 0) texts.push(kind + ' ' + microbatch);
  }
  if (microbatch >= 0) texts.push(String(microbatch));
  return texts.find(text => widthOf(ctx, text) <= width - 4);
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
    if (shown && right - left > 9 && height >= 9) labels.push([i, left, right - gap, y, height]);
  }
  ctx.globalAlpha = 1;
  columns.flush(ctx, plot.left, band.y, band.height, colour => trace.colours[colour].fill);
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  for (const [i, left, right, y, height] of labels) {
    ctx.font = font(height >= 26 ? 12 : height >= 13 ? 11 : 9.5);
    const text = labelOf(ctx, trace, i, right - left);
    if (text === undefined) continue;
    ctx.fillStyle = trace.colours[trace.colour[i]].ink;
    ctx.fillText(text, plot.left + (left + right) / 2, y + height / 2 + 0.5);
  }
}

// A mark over the compute band for every stretch in view.
function paintStretches(ctx, state, plot, stretches, band, fill, columns, line) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  ctx.fillStyle = fill;
  for (let i = stretches.firstAfter(t0); i < stretches.start.length && stretches.start[i] < t1; ++i) {
    const x0 = Math.max(0, (stretches.start[i] - t0) * scale), x1 = Math.min(plot.width, (stretches.end[i] - t0) * scale);
    if (x1 - x0 < 1) { columns.add(x0, x1, 0, 1); continue; }
    ctx.fillStyle = fill;
    ctx.fillRect(plot.left + x0, band.y, x1 - x0, band.height);
    if (line) {
      ctx.fillStyle = line;
      ctx.fillRect(plot.left + x0, band.y + band.height - 2, x1 - x0, 2);
    }
  }
  columns.flush(ctx, plot.left, band.y, band.height, () => fill);
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

// --- around the boxes ------------------------------------------------------------------------------------------------

function paintStrip(ctx, state, plot, block) {
  const {trace} = block;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  ctx.fillStyle = kInk;
  ctx.font = font(13, 600);
  ctx.fillText(trace.title, 16, block.y + 18);
  const x = 16 + widthOf(ctx, trace.title) + 12;
  ctx.font = font(11, 600);
  ctx.fillStyle = trace.predicted ? '#8a5300' : '#0b6b4f';
  ctx.fillText(trace.predicted ? 'prediction' : 'measured', x, block.y + 18);
  ctx.font = font(12);
  ctx.fillStyle = kSoft;
  const rankTime = trace.end * trace.ranks.length, total = trace.total;
  let text = `${timeText(trace.end, trace.relative)}${trace.relative ? ' units' : ''} \u00b7 ${trace.ranks.length} rank${trace.ranks.length === 1 ? '' : 's'} \u00b7 ` +
    `${trace.count.toLocaleString('en')} spans \u00b7 bubbles ${percentText(total.idle, rankTime)} of all time`;
  if (total.transfer > 0)
    text += ` \u00b7 exposed ${percentText(total.exposed, rankTime)} \u00b7 ${percentText(total.hidden, total.transfer)} of transfers hidden`;
  ctx.fillText(text, 16, block.y + 36);
  const sums = {compute: 0, exposed: 0, bubble: 0, hidden: 0, time: 0};
  for (const row of block.rows) {
    const part = sumsInView(state, row.rank);
    for (const key of Object.keys(sums)) sums[key] += part[key];
  }
  ctx.font = font(11);
  paintColumns(ctx, plot, block.y + 18, kColumns.map(column => column.name), kFaint);
  ctx.font = font(12, 600);
  paintColumns(ctx, plot, block.y + 36, columnTexts(sums, trace), kInk);
}

function columnTexts(sums, trace) {
  const transfers = sums.hidden + sums.exposed > 0;
  return [
    percentText(sums.compute, sums.time), transfers ? timeText(sums.exposed, trace.relative, 3) : '\u2013',
    timeText(sums.bubble, trace.relative, 3), transfers ? percentText(sums.hidden, sums.hidden + sums.exposed) : '\u2013',
  ];
}

function paintColumns(ctx, plot, y, texts, colour) {
  ctx.textAlign = 'right';
  ctx.fillStyle = colour;
  let x = plot.left + plot.width;
  texts.forEach((text, i) => {
    x += kColumns[i].width;
    ctx.fillText(text, x, y);
  });
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
    ctx.fillStyle = '#fafbfc';
    ctx.fillRect(0, row.y, plot.left + plot.width + kRight, row.height);
  }
  const band = row.bands[0];
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  ctx.fillStyle = kInk;
  ctx.font = font(12, 500);
  const y = band.lane === 'compute' ? band.y + band.height / 2 + 0.5 : row.y + row.height / 2;
  ctx.fillText(row.rank.trace.predicted ? 'rank ' + row.rank.rank : 'rank ' + row.rank.rank, 16, y);
  ctx.font = font(10);
  ctx.textAlign = 'right';
  ctx.fillStyle = kFaint;
  for (const one of row.bands)
    if (one.lane !== 'compute' && one.height >= 10) ctx.fillText(one.lane, plot.left - 8, one.y + one.height / 2 + 0.5);
  ctx.font = font(12);
  paintColumns(ctx, plot, y, columnTexts(sumsInView(state, row.rank), row.rank.trace), kInk);
}

function paintRow(ctx, state, plot, row, number, columns) {
  paintRowFrame(ctx, state, plot, row, number);
  for (const band of row.bands) {
    if (band.lane === 'compute') {
      paintStretches(ctx, state, plot, row.rank.bubbles, band, hatchOf(ctx), columns, null);
      paintStretches(ctx, state, plot, row.rank.exposed, band, kExposedFill, columns, kRed);
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
  ctx.fillText(relative ? 'units' : 'time', 16, 12);
  ctx.textAlign = 'right';
  ctx.fillText(isWhole(state) ? 'sums: whole step' : 'sums: in view', width - 14, 12);
  ctx.fillStyle = kLine;
  ctx.fillRect(0, kAxis - 0.5, width, 1);
}

function isWhole(state) { return state.view.t0 <= 0 && state.view.t1 >= state.end; }

function paintGrid(ctx, state, plot, bottom) {
  const {t0, t1} = state.view, scale = plot.width / (t1 - t0);
  ctx.fillStyle = 'rgba(29, 36, 48, .06)';
  for (const {t} of axisSteps(t0, t1, plot.width, 96, state.traces[0].relative))
    ctx.fillRect(Math.round(plot.left + (t - t0) * scale), kAxis, 1, bottom - kAxis);
}

// The end of each trace, where it is before the end of the picture.
function paintEnd(ctx, state, plot, block) {
  const {t0, t1} = state.view, end = block.trace.end;
  if (end <= t0 || end >= t1) return;
  const x = Math.round(plot.left + (end - t0) * plot.width / (t1 - t0));
  ctx.fillStyle = kSoft;
  ctx.fillRect(x, block.rows[0].y, 1, block.height - kStrip);
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
  const columns = new Columns(Math.ceil(plot.width));
  ctx.save();
  ctx.translate(0, kAxis - scroll);
  const top = scroll, bottom = scroll + height - kAxis;
  for (const block of layout.blocks) {
    if (block.y > bottom || block.y + block.height < top) continue;
    if (block.y + kStrip > top) paintStrip(ctx, state, plot, block);
    block.rows.forEach((row, number) => {
      if (row.y <= bottom && row.y + row.height >= top) paintRow(ctx, state, plot, row, number, columns);
    });
    paintEnd(ctx, state, plot, block);
    for (const row of block.rows) {
      for (const band of row.bands) {
        if (!band.group) continue;
        const {trace} = block;
        for (const i of state.mates.get(band.group) || []) paintOutline(ctx, state, plot, band, i, kSoft, 1);
        if (state.hover && state.hover.group === band.group) paintOutline(ctx, state, plot, band, state.hover.i, kInk, 1.5);
        if (state.pin && state.pin.trace === trace && state.pin.i >= band.group.first && state.pin.i < band.group.end)
          paintOutline(ctx, state, plot, band, state.pin.i, kInk, 2);
      }
    }
  }
  ctx.restore();
  paintGrid(ctx, state, plot, height);
  paintAxis(ctx, state, plot, width);
  paintMarked(ctx, state, plot, height - kAxis);
}

function plotOf(state) { return {left: kLeft, width: Math.max(50, state.width - kLeft - kRight)}; }

// --- overview --------------------------------------------------------------------------------------------------------

const kOverviewHeight = 46, kOverviewPad = 5;
const kProfile = ['forward', 'input_gradient', 'weight_gradient', 'other', 'exposed'];

// Per column of the picture: which share of all ranks computes in which pass, and which waits for a transfer.
function profileOf(trace, end, width) {
  const profile = kProfile.map(() => new Float32Array(width));
  const scale = width / end, share = 1 / trace.ranks.length;
  const add = (into, start, stop, weight) => {
    const x0 = start * scale, x1 = Math.min(width, stop * scale);
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

function paintOverview(canvas, state) {
  const {width, traces, end} = state, plot = plotOf(state);
  const ctx = prepare(canvas, width, traces.length * kOverviewHeight);
  const fills = [...['forward', 'input_gradient', 'weight_gradient'].map(pass => colourOf('attention', pass, 0).fill),
    colourOf('update', 'forward', 0).fill, kRed];
  traces.forEach((trace, n) => {
    const top = n * kOverviewHeight + kOverviewPad, height = kOverviewHeight - 2 * kOverviewPad;
    if (!trace.profile || trace.profile[0].length !== Math.floor(plot.width)) trace.profile = profileOf(trace, end, Math.floor(plot.width));
    ctx.fillStyle = '#f1f3f6';
    ctx.fillRect(plot.left, top, plot.width * trace.end / end, height);
    for (let x = 0; x < trace.profile[0].length; ++x) {
      let y = top + height;
      trace.profile.forEach((shares, k) => {
        const h = shares[x] * height;
        if (h <= 0) return;
        ctx.fillStyle = fills[k];
        ctx.fillRect(plot.left + x, y - h, 1, h);
        y -= h;
      });
    }
    ctx.fillStyle = kFaint;
    ctx.font = font(11);
    ctx.textAlign = 'left';
    ctx.textBaseline = 'middle';
    ctx.fillText('all ranks', 16, top + height / 2);
  });
  const x0 = plot.left + Math.max(0, state.view.t0 / end) * plot.width, x1 = plot.left + Math.min(1, state.view.t1 / end) * plot.width;
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
