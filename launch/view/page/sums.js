// sums.js: the legend, and the table of time by kind and pass.

const kKindOrder = [...Object.keys(kLightness), 'dispatch', 'combine', 'send', 'receive', 'swap', 'reduce_gradients', 'gather_weights',
  'gradient_norm', 'commit', 'update', 'pack_weights'];
const kPassOrder = ['forward', 'input_gradient', 'weight_gradient'];

// Entries per family, of all traces together: {kind, pass, fill}, in the order of a step.
function legendFamilies(traces) {
  const families = kFamilies.map(() => new Map());
  for (const trace of traces)
    for (const colour of trace.colours)
      if (colour.chunk === 0 || !families[colour.family].has(colour.kind + '/' + colour.pass))
        families[colour.family].set(colour.kind + '/' + colour.pass, {...colour, fill: colourOf(colour.kind, colour.pass, 0).fill});
  const place = entry => kKindOrder.indexOf(entry.kind) * 3 + kPassOrder.indexOf(entry.pass);
  return families.map(entries => new Map([...entries].sort(([, a], [, b]) => place(a) - place(b))));
}

function legendHtml(traces) {
  const parts = [];
  legendFamilies(traces).forEach((entries, f) => {
    if (entries.size === 0) return;
    const named = [...entries.values()].some(entry => !isSlot(entry.kind));
    const passes = new Set([...entries.values()].map(entry => entry.pass));
    const list = [...entries].map(([key, entry]) => {
      let text = isSlot(entry.kind) ? kFamilies[f].name : entry.kind.replace('_', ' ');
      if (f >= 4 && passes.size > 1 && f < 6) text += {forward: ' F', input_gradient: ' B', weight_gradient: ' W'}[entry.pass];
      return `<span class="entry" data-key="${escapeHtml(key)}"><i style="background:${entry.fill}"></i>${escapeHtml(text)}</span>`;
    });
    parts.push(`<span class="family">${named ? `<b>${kFamilies[f].name}</b>` : ''}${list.join('')}</span>`);
  });
  const marks = [`<span class="entry plain"><i style="background:repeating-linear-gradient(135deg,#f5f6f8 0 2px,#cdd3dc 2px 3px)"></i>bubble</span>`];
  if (traces.some(trace => trace.total.transfer > 0))
    marks.push(`<span class="entry plain"><i style="background:${kExposedMark.fill};border-bottom:2px solid ${kRed}"></i>exposed transfer</span>`);
  parts.push(`<span class="family">${marks.join('')}</span>`);
  const notes = [];
  if (traces.some(trace => trace.colours.some(colour => colour.chunk > 0))) notes.push('paler: chunk 1 and on');
  const lanes = traces[0].lanes.filter(lane => traces.some(trace => lanesOf(trace).includes(lane)));
  if (lanes.length > 1) notes.push('bands: ' + lanes.join(', '));
  if (notes.length > 0) parts.push(`<span class="family" style="color:var(--soft)">${notes.join(' \u00b7 ')}</span>`);
  return parts.join('');
}

// Whether its pass says more than its name.
function hasPass(kind) { return !isSlot(kind) && familyOf(kind, 'forward') < 6; }

function sumsByKind(trace) {
  const sums = new Map();
  for (const rank of trace.ranks)
    for (const group of rank.groups)
      for (let i = group.first; i < group.end; ++i) {
        const colour = trace.colours[trace.colour[i]], key = [colour.kind, colour.pass, group.lane].join('/');
        let sum = sums.get(key);
        if (!sum) sums.set(key, sum = {...colour, lane: group.lane, count: 0, time: 0, longest: 0, bytes: 0});
        const time = trace.stop[i] - trace.start[i];
        sum.count += 1;
        sum.time += time / trace.tracks[i];
        sum.longest = Math.max(sum.longest, time);
        sum.bytes += trace.bytes[i];
      }
  return [...sums.values()].sort((a, b) => a.family - b.family || b.time - a.time);
}

function sumsHtml(traces) {
  return traces.map(trace => {
    const rankTime = trace.end * trace.ranks.length, rows = sumsByKind(trace);
    const withBytes = rows.some(row => row.bytes > 0);
    const lines = rows.map(row => {
      const pass = hasPass(row.kind) ? ` <span style="color:var(--faint)">${row.pass.replace('_', ' ')}</span>` : '';
      const name = escapeHtml(row.kind.replace('_', ' ')) + pass;
      return `<tr><td><i style="background:${colourOf(row.kind, row.pass, 0).fill}"></i>${name}</td><td>${escapeHtml(row.lane)}</td>` +
        `<td>${row.count.toLocaleString('en')}</td><td>${timeText(row.time, trace.relative, 4, true)}</td><td>${percentText(row.time, rankTime)}</td>` +
        `<td>${timeText(row.time / row.count, trace.relative, 4, true)}</td><td>${timeText(row.longest, trace.relative, 4, true)}</td>` +
        (withBytes ? `<td>${row.bytes > 0 ? bytesText(row.bytes) : '\u2013'}</td>` : '') + '</tr>';
    });
    const source = trace.predicted ? 'prediction' : 'measured';
    return `<div><h2>${escapeHtml(trace.title)}<span class="badge ${source}">${source}</span></h2><table><tr><th>kind</th><th>lane</th><th>count</th>` +
      `<th>time, all ${rowWord(trace)}s</th><th>of all time</th><th>mean</th><th>longest</th>${withBytes ? '<th>sent</th>' : ''}</tr>${lines.join('')}</table></div>`;
  }).join('');
}

function tipHtml(trace, i, group) {
  const rows = [[rowWord(trace), `${group.rank.rank}, ${group.lane}`],
    ['time', `${timeText(trace.stop[i] - trace.start[i], trace.relative, 5)}`],
    ['from, to', `${timeText(trace.start[i], trace.relative, 7)}, ${timeText(trace.stop[i], trace.relative, 7)}`]];
  const kind = trace.kinds[trace.kind[i]], pass = trace.passes[trace.pass[i]].replace('_', ' ');
  rows.push(['kind', kind.replace('_', ' ') + (hasPass(kind) ? `, ${pass}` : '')]);
  if (trace.microbatch[i] >= 0) rows.push(['micro-batch', trace.microbatch[i]]);
  if (trace.layer[i] >= 0) rows.push(['layer', trace.layer[i]]);
  if (trace.ranks.some(rank => rank.groups.some(g => trace.chunk[g.end - 1] > 0)) || trace.chunk[i] > 0) rows.push(['chunk', trace.chunk[i]]);
  if (trace.pair[i] >= 0) rows.push(['pair', trace.pair[i]]);
  if (trace.bytes[i] > 0) {
    const time = trace.stop[i] - trace.start[i];
    const rate = !trace.relative && time > 0 ? `, ${bytesText(trace.bytes[i] / time * 1e6)}/s` : '';
    rows.push(['sent', bytesText(trace.bytes[i]) + rate]);
  }
  return `<b>${escapeHtml(spanName(trace, i))}</b><table>` +
    rows.map(([name, value]) => `<tr><td>${name}</td><td>${escapeHtml(value)}</td></tr>`).join('') + '</table>';
}

// Of a stretch in which the rank does not compute, or '' where it does.
function gapHtml(row, t) {
  for (const [name, stretches] of [['bubble', row.rank.bubbles], ['exposed transfer', row.rank.exposed]]) {
    const i = stretches.firstAfter(t);
    if (i >= stretches.start.length || stretches.start[i] > t) continue;
    const {relative} = row.rank.trace;
    return `<b>${name}</b><table><tr><td>${rowWord(row.rank.trace)}</td><td>${row.rank.rank}</td></tr>` +
      `<tr><td>time</td><td>${timeText(stretches.end[i] - stretches.start[i], relative, 5)}</td></tr>` +
      `<tr><td>from, to</td><td>${timeText(stretches.start[i], relative, 7)}, ${timeText(stretches.end[i], relative, 7)}</td></tr></table>`;
  }
  return '';
}
