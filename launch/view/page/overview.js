// overview.js: the whole step in one strip, with what is in view marked on it.

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
    ctx.fillText(`all ${rowWord(trace)}s`, kMargin, top + height / 2);
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
