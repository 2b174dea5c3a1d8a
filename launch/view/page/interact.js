// interact.js: the state of the page, and what the pointer, the keys and the address do to it.

const kDragPixels = 4;  // less is a click
const kZoomStep = 1.35, kPanStep = 0.18;
const kBreath = 0.004;  // of the step, free at both ends when all of it is in view

const byId = id => document.getElementById(id);
const canvas = byId('timeline'), overview = byId('overview'), scroller = byId('scroller'), tip = byId('tip');

const state = {
  traces: [], end: 0, view: {t0: 0, t1: 1}, width: 0, height: 0, scroll: 0, rowScale: 1, layout: null,
  hover: null,      // {trace, group, i}
  mates: new Map(), // group -> spans of the same pair as the hovered or pinned one
  pin: null,        // {trace, i, microbatch}
  kindAlone: null,  // "kind/pass"
  cursor: null, marked: null, sums: null /* true, false, or as there is room */,
};

// --- view ------------------------------------------------------------------------------------------------------------

function wholeView() { return {t0: -kBreath * state.end, t1: (1 + kBreath) * state.end}; }

function setView(t0, t1) {
  const whole = wholeView(), least = state.end * 1e-7;
  const length = Math.min(whole.t1 - whole.t0, Math.max(least, t1 - t0));
  t0 = Math.min(Math.max(t0, whole.t0), whole.t1 - length);
  state.view = {t0, t1: t0 + length};
  changed(true);
}

function zoomAt(t, factor) {
  const {t0, t1} = state.view, whole = wholeView();
  const length = Math.min(whole.t1 - whole.t0, Math.max(state.end * 1e-7, (t1 - t0) / factor));
  const share = (t - t0) / (t1 - t0);
  setView(t - share * length, t + (1 - share) * length);
}

function pan(share) {
  const {t0, t1} = state.view, by = share * (t1 - t0);
  setView(t0 + by, t1 + by);
}

function timeAt(x) {
  const plot = plotOf(state), {t0, t1} = state.view;
  return t0 + (x - plot.left) / plot.width * (t1 - t0);
}

function middle() { return (state.view.t0 + state.view.t1) / 2; }

// --- drawing when something has changed ------------------------------------------------------------------------------

let isQueued = false, hashTimer = 0;
function changed(keepsInAddress = false) {
  if (!isQueued) {
    isQueued = true;
    requestAnimationFrame(() => {
      isQueued = false;
      paintTimeline(canvas, state);
      paintOverview(overview, state);
    });
  }
  if (keepsInAddress) {
    clearTimeout(hashTimer);
    hashTimer = setTimeout(writeAddress, 250);
  }
}

// Rows as high as the window allows; what is left below goes to the sums.
function arrange() {
  overview.parentElement.style.height = state.traces.length * kOverviewHeight + 'px';
  const heads = ['header', '#overview-frame', '#legend'].reduce((sum, q) => sum + document.querySelector(q).offsetHeight, 0);
  const room = window.innerHeight - heads;
  const forced = state.sums === true ? Math.floor(0.38 * window.innerHeight) : 0;
  state.layout = layOut(state.traces, room - forced - kAxis - 4, state.rowScale);
  const content = state.layout.height + kAxis;
  const spare = room - content;
  const sums = byId('sums');
  sums.classList.toggle('hidden', state.sums === false || (state.sums === null && spare < 150));
  sums.classList.toggle('forced', state.sums === true && spare < forced);
  byId('spacer').style.height = content + 'px';
  scroller.style.height = Math.min(content, room - (state.sums === true && spare < forced ? forced : 0)) + 'px';
  state.width = scroller.clientWidth;
  state.height = Math.min(content, scroller.clientHeight);
  changed();
}

// --- the address: #t0=..&t1=..&pin=trace.span&kind=..&rows=..&sums=1 ----------------------------------------------------

function writeAddress() {
  const parts = [];
  if (!isWhole(state)) parts.push(`t0=${+state.view.t0.toPrecision(10)}`, `t1=${+state.view.t1.toPrecision(10)}`);
  if (state.pin) parts.push(`pin=${state.pin.trace.number}.${state.pin.i}`);
  if (state.kindAlone !== null) parts.push(`kind=${state.kindAlone}`);
  if (state.rowScale !== 1) parts.push(`rows=${+state.rowScale.toPrecision(4)}`);
  if (state.sums !== null) parts.push(`sums=${state.sums ? 1 : 0}`);
  try {
    history.replaceState(null, '', parts.length > 0 ? '#' + parts.join('&') : location.pathname + location.search);
  } catch (error) { /* some browsers refuse it for files: the view is then not kept */ }
}

function readAddress() {
  const values = new Map(location.hash.slice(1).split('&').map(part => part.split('=')));
  const number = key => values.has(key) && values.get(key) !== '' && isFinite(values.get(key)) ? Number(values.get(key)) : null;
  const t0 = number('t0'), t1 = number('t1');
  if (number('rows') > 0) state.rowScale = Math.min(8, Math.max(0.25, number('rows')));
  if (number('sums') !== null) state.sums = number('sums') > 0;
  if (values.has('kind')) aloneKind(decodeURIComponent(values.get('kind')));
  const [n, i] = (values.get('pin') || '').split('.').map(Number);
  if (state.traces[n] && i >= 0 && i < state.traces[n].count) pinSpan(state.traces[n], i);
  const whole = wholeView();
  setView(t0 === null ? whole.t0 : t0, t1 === null || t1 <= (t0 || 0) ? whole.t1 : t1);
}

// --- pinning and hovering --------------------------------------------------------------------------------------------

function setMates(trace, i) {
  state.mates = new Map();
  if (!trace || trace.pair[i] < 0) return;
  for (const group of groupOf(trace, i).rank.groups) {
    const spans = [];
    for (let k = group.first; k < group.end; ++k) if (k !== i && trace.pair[k] === trace.pair[i]) spans.push(k);
    state.mates.set(group, spans);
  }
}

function pinSpan(trace, i) {
  state.pin = {trace, i, microbatch: trace.microbatch[i]};
  state.kindAlone = null;
  markLegend();
  setMates(trace, i);
}

function letGo() {
  state.pin = null;
  state.kindAlone = null;
  state.marked = null;
  setMates(null);
  markLegend();
}

function aloneKind(key) {
  state.pin = null;
  state.kindAlone = state.kindAlone === key ? null : key;
  markLegend();
}

function markLegend() {
  for (const entry of document.querySelectorAll('#legend .entry')) entry.classList.toggle('on', entry.dataset.key === state.kindAlone);
}

// The pinned span's neighbour in its lane, brought into view.
function pinNeighbour(step) {
  if (!state.pin) return;
  const {trace, i} = state.pin, group = groupOf(trace, i), next = i + step;
  if (next < group.first || next >= group.end) return;
  pinSpan(trace, next);
  const {t0, t1} = state.view;
  if (trace.start[next] < t0 || trace.stop[next] > t1) {
    const length = t1 - t0, centre = (trace.start[next] + trace.stop[next]) / 2;
    setView(centre - length / 2, centre + length / 2);
  }
  changed(true);
}

function showTip(html, x, y) {
  tip.hidden = html === '';
  if (tip.hidden) return;
  tip.innerHTML = html;
  const {offsetWidth: w, offsetHeight: h} = tip;
  tip.style.left = Math.max(4, x + 16 + w > window.innerWidth ? x - w - 12 : x + 16) + 'px';
  tip.style.top = Math.max(4, y + 16 + h > window.innerHeight ? y - h - 12 : y + 16) + 'px';
}

function hoverAt(event) {
  const box = canvas.getBoundingClientRect(), plot = plotOf(state);
  const x = event.clientX - box.left, y = event.clientY - box.top - kAxis + state.scroll;
  state.hover = null;
  const inPlot = x >= plot.left && x < plot.left + plot.width;
  const {row, band} = y >= state.scroll ? placeAt(state.layout, y) : {row: null, band: null};
  let html = '';
  state.cursor = inPlot ? timeAt(x) : null;
  if (inPlot && row) {
    const {trace} = row.rank, i = spanAt(trace, band, state.cursor, y);
    if (i >= 0) {
      state.hover = {trace, group: band.group, i};
      html = tipHtml(trace, i, band.group);
    } else {
      html = gapHtml(row, state.cursor);
    }
  } else if (row && band && x < plot.left) {
    html = `<b>${rowWord(row.rank.trace)} ${row.rank.rank}</b>${escapeHtml(band.lane)} lane`;
  }
  const about = state.hover || state.pin;
  setMates(about ? about.trace : null, about ? about.i : -1);
  showTip(html, event.clientX, event.clientY);
  changed();
}

// --- pointer ---------------------------------------------------------------------------------------------------------

let drag = null;  // {x, y, view, scroll, moved, marks}

function onDown(event) {
  if (event.button !== 0) return;
  const box = canvas.getBoundingClientRect();
  drag = {x: event.clientX, y: event.clientY, view: {...state.view}, scroll: scroller.scrollTop, moved: false, marks: event.shiftKey,
    from: timeAt(event.clientX - box.left)};
  canvas.setPointerCapture(event.pointerId);
}

function onMove(event) {
  if (!drag) return hoverAt(event);
  if (Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) >= kDragPixels) drag.moved = true;
  if (!drag.moved) return;
  tip.hidden = true;
  state.cursor = null;
  if (drag.marks) {
    state.marked = {from: drag.from, to: timeAt(event.clientX - canvas.getBoundingClientRect().left)};
    return changed();
  }
  canvas.classList.add('moving');
  const by = (drag.x - event.clientX) / plotOf(state).width * (drag.view.t1 - drag.view.t0);
  scroller.scrollTop = drag.scroll + drag.y - event.clientY;
  setView(drag.view.t0 + by, drag.view.t1 + by);
}

function onUp(event) {
  if (!drag) return;
  canvas.classList.remove('moving');
  if (drag.marks && state.marked) {
    const {from, to} = state.marked;
    state.marked = null;
    setView(Math.min(from, to), Math.max(from, to));
  } else if (!drag.moved) {
    hoverAt(event);
    const {hover, pin} = state;
    if (hover && !(pin && pin.trace === hover.trace && pin.i === hover.i)) pinSpan(hover.trace, hover.i); else letGo();
    changed(true);
  }
  drag = null;
}

function onWheel(event) {
  const x = event.clientX - canvas.getBoundingClientRect().left;
  if (x < kLeft && !event.ctrlKey) return;  // over the rank names: the rows scroll
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 18 : 1;
  const dx = event.deltaX * lines, dy = event.deltaY * lines;
  if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) return pan((dx || dy) / plotOf(state).width);
  zoomAt(timeAt(x), Math.exp(-Math.max(-240, Math.min(240, dy)) * 0.0022));
  hoverAt(event);
}

// On the overview: inside what is in view it moves the view, elsewhere it chooses a new one.
let choice = null;  // {from, moves, view}
function overviewTime(event) {
  const plot = plotOf(state);
  const {t0, t1} = wholeView();
  return t0 + (event.clientX - overview.getBoundingClientRect().left - plot.left) / plot.width * (t1 - t0);
}
function onOverviewDown(event) {
  const t = overviewTime(event), {t0, t1} = state.view;
  choice = {from: t, moves: !isWhole(state) && t > t0 && t < t1, view: {t0, t1}};
  overview.setPointerCapture(event.pointerId);
}
function onOverviewMove(event) {
  if (!choice) return;
  const t = overviewTime(event), by = t - choice.from;
  if (choice.moves) setView(choice.view.t0 + by, choice.view.t1 + by);
  else if (Math.abs(by) > state.end * 0.003) setView(Math.min(t, choice.from), Math.max(t, choice.from));
}
function onOverviewUp(event) {
  if (choice && !choice.moves && Math.abs(overviewTime(event) - choice.from) <= state.end * 0.003 && !isWhole(state)) {
    const half = (state.view.t1 - state.view.t0) / 2;
    setView(choice.from - half, choice.from + half);
  }
  choice = null;
}

// --- keys and buttons ------------------------------------------------------------------------------------------------

function wholeStep() {
  const whole = wholeView();
  setView(whole.t0, whole.t1);
}
function scaleRows(factor) {
  state.rowScale = Math.min(8, Math.max(0.25, state.rowScale * factor));
  arrange();
  changed(true);
}
function toggleSums() {
  state.sums = byId('sums').classList.contains('hidden');
  arrange();
  changed(true);
}
function toggleHelp() { byId('help').hidden = !byId('help').hidden; }

const kKeys = {
  w: () => zoomAt(middle(), kZoomStep), s: () => zoomAt(middle(), 1 / kZoomStep),
  '+': () => zoomAt(middle(), kZoomStep), '=': () => zoomAt(middle(), kZoomStep), '-': () => zoomAt(middle(), 1 / kZoomStep),
  arrowup: () => zoomAt(middle(), kZoomStep), arrowdown: () => zoomAt(middle(), 1 / kZoomStep),
  a: () => pan(-kPanStep), d: () => pan(kPanStep), arrowleft: () => pan(-kPanStep), arrowright: () => pan(kPanStep),
  0: wholeStep, home: wholeStep, n: () => pinNeighbour(1), p: () => pinNeighbour(-1),
  '[': () => scaleRows(1 / 1.2), ']': () => scaleRows(1.2), t: toggleSums, '?': toggleHelp,
  escape: () => { letGo(); byId('help').hidden = true; changed(true); },
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const action = kKeys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

function listen() {
  canvas.addEventListener('pointerdown', onDown);
  canvas.addEventListener('pointermove', onMove);
  canvas.addEventListener('pointerup', onUp);
  canvas.addEventListener('pointercancel', () => { drag = null; state.marked = null; changed(); });
  canvas.addEventListener('pointerleave', () => {
    if (drag) return;
    state.hover = null;
    state.cursor = null;
    tip.hidden = true;
    setMates(state.pin && state.pin.trace, state.pin && state.pin.i);
    changed();
  });
  canvas.addEventListener('dblclick', wholeStep);
  canvas.addEventListener('wheel', onWheel, {passive: false});
  overview.addEventListener('pointerdown', onOverviewDown);
  overview.addEventListener('pointermove', onOverviewMove);
  overview.addEventListener('pointerup', onOverviewUp);
  scroller.addEventListener('scroll', () => {
    state.scroll = scroller.scrollTop;
    canvas.style.top = state.scroll + 'px';
    changed();
  });
  byId('legend').addEventListener('click', event => {
    const entry = event.target.closest('.entry');
    if (entry && entry.dataset.key) { aloneKind(entry.dataset.key); changed(true); }
  });
  const buttons = {'zoom-in': kKeys['+'], 'zoom-out': kKeys['-'], fit: wholeStep, 'rows-less': kKeys['['], 'rows-more': kKeys[']'],
    'sums-toggle': toggleSums, 'help-toggle': toggleHelp};
  for (const [id, action] of Object.entries(buttons)) byId(id).addEventListener('click', action);
  window.addEventListener('keydown', onKey);
  window.addEventListener('resize', arrange);
  window.addEventListener('hashchange', () => { letGo(); readAddress(); arrange(); });
}

function start() {
  document.querySelectorAll('script.trace').forEach((script, number) => {
    const trace = decodeTrace(JSON.parse(script.textContent), number);
    script.remove();
    setColours(trace);
    state.traces.push(trace);
  });
  state.end = Math.max(...state.traces.map(trace => trace.end)) || 1;
  byId('heading').textContent = state.traces.length > 1 ? `${state.traces.length} steps on one time axis` : state.traces[0].title;
  const sources = new Set(state.traces.map(trace => trace.predicted ? 'prediction' : 'measured'));
  byId('sources').innerHTML = [...sources].map(source => `<span class="badge ${source}">${source}</span>`).join('');
  byId('legend').innerHTML = legendHtml(state.traces);
  byId('sums').innerHTML = sumsHtml(state.traces);
  listen();
  readAddress();
  arrange();
}

start();
