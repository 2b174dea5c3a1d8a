// layout.js: where things stand. Heights in CSS pixels; y counts from the top of the first trace.

const kLeft = 92, kAxis = 26, kGap = 14, kRankPad = 3, kLaneGap = 1;
const kStrip = 50, kStripAlone = 46;  // above a trace's rows; a page of one trace has its title in the header
const kLaneUnits = {compute: 2.6, near: 1, far: 1, pipe: 0.8, shard: 0.8, host: 0.8};  // shares of a row's height
const kLeastUnit = 5, kLeastAlone = 9, kMostUnit = 25;
const kMargin = 16;

// The columns of sums on the right; without transfers there are two less.
function columnsOf(traces) {
  const transfers = traces.some(trace => trace.total.transfer > 0);
  return [{name: 'computing', width: 78}, ...(transfers ? [{name: 'exposed', width: 70}] : []), {name: 'bubble', width: 70},
    ...(transfers ? [{name: 'hidden', width: 60}] : [])];
}

// The lanes that any rank of the trace uses, in the order of the program.
function lanesOf(trace) {
  return trace.lanes.filter(lane => trace.ranks.some(rank => rank.groups.some(group => group.lane === lane)));
}

// Rows for every rank of every trace: as high as fits `height`, within bounds, times `rowScale`.
function layOut(traces, height, rowScale) {
  const strip = traces.length > 1 ? kStrip : kStripAlone;
  let units = 0, fixed = 0;
  for (const trace of traces) {
    const lanes = lanesOf(trace);
    units += trace.ranks.length * lanes.reduce((sum, lane) => sum + kLaneUnits[lane], 0);
    fixed += strip + kGap + trace.ranks.length * (2 * kRankPad + (lanes.length - 1) * kLaneGap);
  }
  const least = traces.some(trace => lanesOf(trace).length > 1) ? kLeastUnit : kLeastAlone;
  const unit = Math.min(kMostUnit, Math.max(least, (height - fixed) / units)) * rowScale;
  const blocks = [];
  let y = 0;
  for (const trace of traces) {
    const block = {trace, y, strip, rows: [], lanes: lanesOf(trace)};
    y += strip;
    for (const rank of trace.ranks) {
      const row = {rank, y, bands: []};
      y += kRankPad;
      for (const lane of block.lanes) {
        const h = Math.max(3, Math.floor(unit * kLaneUnits[lane]));
        row.bands.push({lane, y, height: h, group: rank.groups.find(group => group.lane === lane) || null});
        y += h + kLaneGap;
      }
      y += kRankPad - kLaneGap;
      row.height = y - row.y;
      block.rows.push(row);
    }
    block.height = y - block.y;
    y += kGap;
    blocks.push(block);
  }
  return {blocks, height: y - kGap + 4};
}

// The row and band at y, each null where there is none.
function placeAt(layout, y) {
  for (const block of layout.blocks) {
    if (y < block.y || y >= block.y + block.height) continue;
    for (const row of block.rows) {
      if (y < row.y || y >= row.y + row.height) continue;
      return {block, row, band: row.bands.find(band => y >= band.y && y < band.y + band.height) || null};
    }
    return {block, row: null, band: null};
  }
  return {block: null, row: null, band: null};
}

// The span at time t and height y of a band, or -1.
function spanAt(trace, band, t, y) {
  if (!band || !band.group) return -1;
  for (let i = firstSpanAfter(trace, band.group, t); i < band.group.end && trace.start[i] <= t; ++i) {
    if (trace.stop[i] <= t) continue;
    if (Math.floor((y - band.y) / band.height * trace.tracks[i]) === trace.track[i]) return i;
  }
  return -1;
}
