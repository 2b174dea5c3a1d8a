'use strict';
// trace.js: the traces of the page, decoded. The format is that of launch/view/page_data.h.
// A trace keeps its spans as columns; a group is the spans of one rank and lane, by start.

// Unsigned LEB128 numbers out of base64. They may be larger than 2^31, so no shifts.
class Numbers {
  constructor(base64) {
    const text = atob(base64);
    this.bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; ++i) this.bytes[i] = text.charCodeAt(i);
    this.at = 0;
  }
  next() {
    let value = 0, unit = 1;
    for (;;) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) throw new Error('the data of the page is cut short');
      value += (byte & 127) * unit;
      if (byte < 128) return value;
      unit *= 128;
    }
  }
  nextSigned() {
    const value = this.next();
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
  }
}

// Stretches of time in order, with running sums, so that the sum over a view costs two searches.
class Stretches {
  constructor(numbers, tick) {
    const n = numbers.next();
    this.start = new Float64Array(n);
    this.end = new Float64Array(n);
    this.before = new Float64Array(n + 1);
    let ticks = 0;
    for (let i = 0; i < n; ++i) {
      ticks += numbers.next();
      this.start[i] = ticks * tick;
      ticks += numbers.next();
      this.end[i] = ticks * tick;
      this.before[i + 1] = this.before[i] + this.end[i] - this.start[i];
    }
  }
  // The first that ends after t.
  firstAfter(t) { return firstIndex(0, this.end.length, i => this.end[i] > t); }
  // Of all that lies before t.
  sumBefore(t) {
    const i = this.firstAfter(t);
    const part = i < this.start.length && this.start[i] < t ? t - this.start[i] : 0;
    return this.before[i] + part;
  }
  sumWithin(t0, t1) { return this.sumBefore(t1) - this.sumBefore(t0); }
}

// The first index in [low, high) that is `good`, where those after a good one are good; high if none is.
function firstIndex(low, high, good) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (good(middle)) high = middle; else low = middle + 1;
  }
  return low;
}

function decodeTrace(source, number) {
  const n = source.num_spans;
  const trace = {
    number, title: source.title, predicted: source.predicted, relative: source.relative, end: source.end,
    lanes: source.lanes, passes: source.passes, kinds: source.kinds, names: source.names, total: source.total,
    count: n, ranks: [],
    start: new Float64Array(n), stop: new Float64Array(n), name: new Uint32Array(n), kind: new Uint16Array(n),
    pass: new Uint8Array(n), chunk: new Uint16Array(n), microbatch: new Int32Array(n), layer: new Int32Array(n),
    pair: new Int32Array(n), bytes: new Float64Array(n), track: new Uint8Array(n), tracks: new Uint8Array(n),
    longest: new Float64Array(n),  // the latest stop of the group up to here: what a search can be done on
  };
  const numbers = new Numbers(source.data);
  const byRank = new Map();
  for (const account of source.accounts) {
    const rank = {trace, rank: account.rank, account, groups: []};
    byRank.set(account.rank, rank);
    trace.ranks.push(rank);
  }
  let next = 0;
  for (let g = 0; g < source.num_groups; ++g) {
    const rank = byRank.get(numbers.next());
    const group = {rank, lane: trace.lanes[numbers.next()], first: next, end: next + numbers.next()};
    decodeGroup(trace, group, numbers, source.tick);
    rank.groups.push(group);
    next = group.end;
  }
  for (const rank of trace.ranks) {
    rank.hidden = new Stretches(numbers, source.tick);
    rank.exposed = new Stretches(numbers, source.tick);
    rank.bubbles = new Stretches(numbers, source.tick);
  }
  return trace;
}

function decodeGroup(trace, group, numbers, tick) {
  let ticks = 0, longest = 0;
  for (let i = group.first; i < group.end; ++i) {
    ticks += numbers.next();
    trace.start[i] = ticks * tick;
    trace.stop[i] = (ticks + numbers.next()) * tick;
    trace.longest[i] = longest = Math.max(longest, trace.stop[i]);
    trace.name[i] = numbers.next();
    trace.kind[i] = numbers.next();
    trace.pass[i] = numbers.next();
    trace.chunk[i] = numbers.next();
    trace.microbatch[i] = numbers.nextSigned();
    trace.layer[i] = numbers.nextSigned();
    trace.pair[i] = numbers.nextSigned();
    trace.bytes[i] = numbers.nextSigned();
  }
  setTracks(trace, group, 1.5 * tick);
}

// Spans of one lane that overlap, as the two slots of a pair do, share its height: each gets the first free track. Those
// without length overlap nothing.
function setTracks(trace, group, tolerance) {
  const isEmpty = i => trace.stop[i] - trace.start[i] <= tolerance;
  trace.tracks.fill(1, group.first, group.end);
  for (let first = group.first; first < group.end;) {
    const free = [];  // per track: when it is free again
    let end = first, latest = -Infinity;
    for (; end < group.end && (latest === -Infinity || trace.start[end] < latest - tolerance); ++end) {
      if (isEmpty(end)) continue;
      let track = free.findIndex(t => t <= trace.start[end] + tolerance);
      if (track < 0) track = Math.min(free.length, 254);
      free[track] = trace.stop[end];
      trace.track[end] = track;
      latest = Math.max(latest, trace.stop[end]);
    }
    for (let i = first; i < end; ++i) if (!isEmpty(i)) trace.tracks[i] = free.length;
    first = end;
  }
}

// What a row is: of a priced step a pipeline position, one rank of which stands for all its data columns.
function rowWord(trace) { return trace.predicted && !trace.relative ? 'position' : 'rank'; }

function spanName(trace, i) {
  const name = trace.names[trace.name[i]];
  if (name[0] === '=') return name.slice(1);
  return name.slice(1).replaceAll('{m}', trace.microbatch[i]).replaceAll('{l}', trace.layer[i]);
}

function groupOf(trace, i) {
  for (const rank of trace.ranks)
    for (const group of rank.groups) if (i >= group.first && i < group.end) return group;
  return null;
}

// The first span of a group that ends after t.
function firstSpanAfter(trace, group, t) {
  return firstIndex(group.first, group.end, i => trace.longest[i] > t);
}
