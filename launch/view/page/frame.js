// frame.js: the timeline: titles, sums, ranks, axis and cursor around the boxes. Reads the state, changes nothing.

function paintStrip(ctx, state, plot, block) {
  const {trace} = block, lower = block.y + block.strip - 14, upper = lower - 18;
  const room = plot.left + plot.width - kMargin;  // left of the columns
  ctx.textBaseline = 'middle';
  if (state.traces.length > 1) {
    ctx.textAlign = 'left';
    ctx.fillStyle = kInk;
    ctx.font = font(13, 600);
    const title = fitted(ctx, trace.title, room - 90);
    ctx.fillText(title, kMargin, upper);
    paintBadge(ctx, kMargin + widthOf(ctx, title) + 12, upper, trace.predicted);
  }
  ctx.textAlign = 'left';
  ctx.font = font(12);
  ctx.fillStyle = kSoft;
  const parts = summaryOf(trace);
  while (parts.length > 1 && widthOf(ctx, parts.join(kDot)) > room) parts.pop();
  ctx.fillText(parts.join(kDot), kMargin, lower);
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

function fitted(ctx, text, width) {
  if (widthOf(ctx, text) <= width) return text;
  const length = firstIndex(0, text.length, n => ctx.measureText(text.slice(0, n) + '\u2026').width > width);
  return text.slice(0, Math.max(0, length - 1)) + '\u2026';
}

// The most important first: where there is no room the last are left out.
function summaryOf(trace) {
  const rankTime = trace.end * trace.ranks.length, {total} = trace;
  const parts = [timeText(trace.end, trace.relative) + (trace.relative ? ' units' : ''),
    `${trace.ranks.length} ${rowWord(trace)}${trace.ranks.length === 1 ? '' : 's'}`, `${trace.count.toLocaleString('en')} spans`,
    `${percentText(total.compute, rankTime)} computing`, `${percentText(total.idle, rankTime)} bubbles`];
  if (total.transfer > 0)
    parts.push(`${percentText(total.exposed, rankTime)} exposed transfers`, `${percentText(total.hidden, total.transfer)} of transfers hidden`);
  return parts;
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
  ctx.fillText(`${rowWord(row.rank.trace)} ${row.rank.rank}`, kMargin, y);
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
