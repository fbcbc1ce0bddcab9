// Runs to entries: what a row of the table and a colour of the charts stand for.

const STAGES = ['trained', 'ema', 'adapted', 'quantized', 'final'];
const STAGE_LABELS = {
  trained: 'trained', ema: 'averaged', adapted: 'TTT', quantized: 'quantized', final: 'final',
};

function mean(values) {
  const found = values.filter(isNumber);
  return found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
}

// Of one value there is no spread to state: null.
function deviation(values) {
  const found = values.filter(isNumber);
  if (found.length < 2) return null;
  const middle = mean(found);
  return Math.sqrt(found.reduce((a, b) => a + (b - middle) ** 2, 0) / (found.length - 1));
}

const spent = run => run.seconds.reduce((all, [, value, , reused]) => all + (reused ? 0 : value), 0);
const size = run => (run.bytes ? run.bytes.total_bytes : null);

// A run and the same again, of one seed, count once: the newest that is finished, or else the newest.
function newestOfSeeds(runs) {
  const found = new Map();
  const order = (a, b) => (a.state === 'finished') - (b.state === 'finished') || a.time - b.time;
  for (const run of runs) {
    if (!found.has(run.seed) || order(run, found.get(run.seed)) >= 0) found.set(run.seed, run);
  }
  return [...found.values()];
}

// Seeds of one configuration together, or each run by itself.
function makeEntries(runs, groups, bySeed) {
  if (!bySeed) {
    return runs.map(run => entry(run.id, `${groups[run.group].label}, seed ${run.seed}`, [run], groups));
  }
  const found = new Map();
  for (const run of runs) {
    if (!found.has(run.group)) found.set(run.group, []);
    found.get(run.group).push(run);
  }
  return [...found].map(([key, members]) => entry(key, groups[key].label, members, groups));
}

// `runs` are those that count, `members` all of them.
function entry(key, label, members, groups) {
  const runs = newestOfSeeds(members), done = runs.filter(run => run.state === 'finished');
  const finals = runs.map(run => run.bpb.final);
  const judged = runs.filter(run => run.eligible !== undefined);
  const stages = Object.fromEntries(STAGES.map(name => [name, mean(runs.map(r => r.bpb[name]))]));
  return {
    key, label, runs, members, stages,
    bpb: mean(finals),
    std: deviation(finals),
    eligible: judged.length ? judged.every(run => run.eligible) : null,
    bytes: mean(runs.map(size)),
    seconds: mean((done.length ? done : runs).map(spent)),
    states: [...new Set(members.map(run => run.state))],
    why: [...new Set(runs.flatMap(run => run.why || []))],
    text: [label, groups[members[0].group].typed, ...members.map(r => `${r.run} ${r.name} seed=${r.seed} ${r.state}`)].join(' ').toLowerCase(),
  };
}

// Loss of a run as points over the chosen axis: its own, or of the run whose training it reused.
function lossPoints(run, axis, byId) {
  const from = run.loss || (byId.get(run.lender) || {}).loss;
  if (!from) return [];
  const xs = axis !== 'tokens' ? from[axis] : from.tokens || from.step.map(x => x * from.rate);
  return xs.map((x, i) => [x, from.loss[i]]).filter(([x, y]) => isNumber(x) && isNumber(y));
}

function valueAt(points, x) {
  let low = 0, high = points.length - 1;
  if (x <= points[0][0]) return points[0][1];
  if (x >= points[high][0]) return points[high][1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle; else high = middle;
  }
  const [[x0, y0], [x1, y1]] = [points[low], points[high]];
  return x1 > x0 ? y0 + ((y1 - y0) * (x - x0)) / (x1 - x0) : y1;
}

// Mean, lowest and highest of several curves where all of them have values.
function band(curves, count = 160) {
  const from = Math.max(...curves.map(c => c[0][0]));
  const to = Math.min(...curves.map(c => c[c.length - 1][0]));
  if (!(to > from)) return { middle: [], range: [] };
  const middle = [], range = [];
  for (let i = 0; i <= count; i++) {
    const x = from + ((to - from) * i) / count;
    const ys = curves.map(curve => valueAt(curve, x));
    middle.push([x, mean(ys)]);
    range.push([x, Math.min(...ys), Math.max(...ys)]);
  }
  return { middle, range };
}
