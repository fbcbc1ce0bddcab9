// The charts, each from the entries that are picked; `picked` have a colour.

function card(title, about, ...content) {
  return h('section', { class: 'card' }, h('h2', {}, title),
    about ? h('p', { class: 'muted' }, about) : null, content);
}

function chart(options) {
  const host = h('div', { class: 'host' });
  // Its width is known once it is on the page.
  queueMicrotask(() => plot(host, options));
  return host;
}

// Radio buttons that look like tabs; `set` is told the chosen value.
function choice(name, options, chosen, set) {
  return h('div', { class: 'choices', role: 'radiogroup', 'aria-label': name },
    options.map(([value, label]) => h('label', {},
      h('input', { type: 'radio', name, value, 'data-focus': `${name}-${value}`, checked: value === chosen, onchange: () => set(value) }),
      h('span', {}, label))));
}

function stagesCard(picked) {
  const series = picked.map(one => {
    const found = STAGES.map((name, i) => [i, one.stages[name], name]).filter(p => isNumber(p[1]));
    return {
      label: one.label, colour: one.colour, line: found.map(([x, y]) => [x, y]),
      dots: found.map(([x, y, name]) => ({
        x, y, hollow: x < 3, title: `${one.label}, ${STAGE_LABELS[name]}: ${fixed(y, 4)} BPB`,
      })),
    };
  });
  return card('Bits per byte along the stages',
    'Hollow: weights in memory. Full: measured from the artifact. Means over seeds.',
    chart({
      series, x: { title: '', names: STAGES.map(name => STAGE_LABELS[name]) },
      y: { title: 'bits per byte' }, label: `Bits per byte along the stages of ${names(picked)}`,
    }));
}

const names = picked => picked.map(one => one.label).join('; ') || 'no runs';

const AXES = [['step', 'steps'], ['seconds', 'seconds'], ['tokens', 'tokens']];

// The steep beginning hides what tells runs apart later: it is shown when it is asked for.
const PARTS = [['late', 'after the start'], ['all', 'whole']];
const START = 0.05;

function lossCard(picked, byId, { axis, part }, set) {
  let lent = false;
  const all = new Map(picked.flatMap(one => one.runs).map(run => [run, lossPoints(run, axis, byId)]));
  const from = part === 'late' ? START * extent([...all.values()].flat().map(p => p[0]))[1] : -1;
  const series = picked.map(one => {
    const curves = one.runs.map(run => all.get(run).filter(([x]) => x >= from)).filter(c => c.length > 1);
    lent = lent || one.runs.some(run => !run.loss && run.lender);
    if (curves.length < 2) return { label: one.label, colour: one.colour, line: curves[0] };
    const { middle, range } = band(curves);
    return { label: `mean of ${curves.length} seeds, ${one.label}`, colour: one.colour,
             line: middle, range, thin: curves };
  });
  return card('Training loss',
    'Lines are means over seeds, bands reach from the lowest to the highest seed.'
      + (lent ? ' Training that was reused is drawn where it ran.' : ''),
    h('div', { class: 'rows' }, choice('axis', AXES, axis, value => set({ axis: value })),
      choice('part', PARTS, part, value => set({ part: value }))),
    chart({
      series, readout: true, x: { title: AXES.find(([name]) => name === axis)[1] }, y: { title: 'nats per token' },
      label: `Training loss against ${axis} of ${names(picked)}`,
    }));
}

// Between runs: final BPB by the number of epochs, a dot a run. Within runs: after each epoch.
function epochsCard(picked, visible) {
  const parts = [];
  const between = betweenRuns(visible);
  if (between.length) {
    parts.push(h('h3', {}, 'Final score of runs by their number of epochs, 0: no test-time training'), chart({
      series: between, x: { title: 'epochs', room: true, whole: true }, y: { title: 'final bits per byte' },
      label: `Final bits per byte against epochs: ${names(between)}`,
    }), h('ul', { class: 'legend' }, between.map(one => h('li', {}, swatch(one), one.label))));
  }
  const within = picked.map(one => withinRuns(one)).filter(one => one.line);
  if (within.length) {
    parts.push(h('h3', {}, 'After each epoch, weights in memory'), chart({
      series: within, readout: true, x: { title: 'epoch', whole: true }, y: { title: 'bits per byte' },
      label: `Bits per byte after each epoch of ${names(picked)}`,
    }));
  }
  return parts.length ? card('Bits per byte against epochs of test-time training', '', parts) : null;
}

// A line for runs whose configurations differ in the epochs of one method only; runs without
// test-time training belong to each. Colours are those of the lines, not of the table.
function betweenRuns(visible) {
  const runs = visible.flatMap(one => one.runs.map(run => ({ run, one })))
    .filter(({ run }) => isNumber(run.epochs) && isNumber(run.bpb.final));
  const lines = new Map(runs.filter(({ run }) => run.method !== 'none')
    .map(({ run }) => [`${run.base} ${run.method}`, run]));
  const found = [...lines.values()].map(({ base, method }) => {
    const own = runs.filter(({ run }) => run.base === base && [method, 'none'].includes(run.method));
    const counts = [...new Set(own.map(({ run }) => run.epochs))].sort((a, b) => a - b);
    return {
      label: method, first: own[0].one.label,
      line: counts.map(n => [n, mean(own.filter(r => r.run.epochs === n).map(r => r.run.bpb.final))]),
      dots: own.map(({ run, one }) => ({ x: run.epochs, y: run.bpb.final, hollow: true,
        title: `${one.label}, seed ${run.seed}: ${run.epochs} epochs, ${fixed(run.bpb.final, 4)} BPB` })),
    };
  }).filter(one => one.line.length > 1).slice(0, SERIES);
  const several = new Set(found.map(one => one.label)).size < found.length;
  return found.map((one, i) => ({ ...one, colour: `var(--series-${i})`,
    label: several ? `${one.label}, e.g. ${one.first}` : one.label }));
}

function withinRuns(one) {
  const curves = one.runs.filter(run => run.ttt).map(run => {
    const points = run.ttt.epoch.map((x, i) => [x, run.ttt.bpb[i]]).filter(([, y]) => isNumber(y));
    return isNumber(run.bpb.ema) && points.length ? [[0, run.bpb.ema], ...points] : points;
  }).filter(curve => curve.length > 1);
  const { middle, range } = curves.length > 1 ? band(curves, 60) : { middle: curves[0], range: [] };
  return { label: one.label, colour: one.colour, line: middle, range };
}

function gainCard(picked) {
  const series = picked.map(one => ({
    label: one.label, colour: one.colour, thin: one.runs.filter(run => run.running).map(run =>
      run.running.tokens.map((x, i) => [x, run.running.gain[i]]).filter(([, y]) => isNumber(y))),
  })).filter(one => one.thin.some(points => points.length > 1));
  if (!series.length) return null;
  series.forEach(one => { [one.line, ...one.thin] = one.thin; });
  return card('What adapting while scoring gains',
    'Bits per byte less than the same model without adapting, over the tokens scored so far.',
    chart({ series, readout: true, x: { title: 'tokens scored' }, y: { title: 'bits per byte gained' },
            label: `Gain of adapting over the tokens scored, of ${names(picked)}` }));
}

// The first seed's documents; the other seeds as thin lines.
function documentsCard(picked) {
  const found = picked.map(one => ({ one, runs: one.runs.filter(run => run.documents) })).filter(p => p.runs.length);
  if (!found.length) return null;
  const points = ({ documents: { span: [low, high], density } }) => density.map((y, i) =>
    [low + ((high - low) * (i + 0.5)) / density.length, y]);
  const series = found.map(({ one, runs: [first, ...others] }) => ({
    label: one.label, colour: one.colour, line: points(first), thin: others.map(points),
  }));
  const lines = found.map(({ one, runs: [first] }) => h('li', {}, swatch(one),
    `${one.label}: median ${fixed(first.documents.median, 4)}`,
    first.report ? [', ', h('a', { href: `${first.report}#documents`, 'data-focus': `documents-${first.id}`,
      'aria-label': `worst documents of ${one.label}` }, 'worst documents')] : null));
  return card('Bits per byte by document',
    'Of all documents, percent per 0.1 bits per byte; a line is a seed. Short ones are left out.',
    chart({ series, x: { title: 'bits per byte' }, y: { title: 'percent per 0.1' },
            label: `Documents by bits per byte, of ${names(found.map(p => p.one))}` }),
    h('ul', { class: 'legend' }, lines));
}

function bytesCard(picked, visible, limit) {
  const colours = new Map(picked.map(one => [one.key, one.colour]));
  const series = visible.map(one => ({
    label: one.label, colour: colours.get(one.key) || 'var(--other)',
    dots: one.runs.filter(run => run.bytes && isNumber(run.bpb.final)).map(run => ({
      x: size(run), y: run.bpb.final,
      hollow: !colours.has(one.key),
      title: `${one.label}, seed ${run.seed}: ${whole(size(run))} bytes, ${fixed(run.bpb.final, 4)} BPB`,
    })),
  })).filter(one => one.dots.length);
  // Chosen ones are drawn last, above the others.
  series.sort((a, b) => b.dots[0].hollow - a.dots[0].hollow);
  const smallest = Math.min(...series.flatMap(one => one.dots.map(dot => dot.x)));
  return card('Bits per byte against bytes', `A dot a run; left of the line is within ${whole(limit)} bytes.`,
    chart({ series, marks: [{ x: limit, label: `${short(limit / 1e6)} MB` }],
            x: { title: 'bytes of the artifact', log: limit > 3 * smallest, room: true },
            y: { title: 'final bits per byte' },
            label: `Final bits per byte against bytes, ${visible.length} entries` }));
}

const BUDGETS = { train: 'train', evaluate: 'evaluate' };
const FADE = [1, 0.72, 0.5, 0.36, 0.26];

function secondsCard(picked) {
  const longest = Math.max(...picked.map(one => total(stageMeans(one))), 1);
  return card('Where the seconds went',
    'Means over seeds. A colour is a budget, each stage of it lighter than the one before; '
    + 'hatched: reused from the cache, it counts for its budget and took no time.',
    h('ul', { class: 'legend' }, ['train', 'evaluate', 'other'].map(name =>
      h('li', {}, h('i', { class: `fill-${name}` }), name === 'other' ? 'without a limit' : `${name} budget`))),
    picked.map(one => secondsBar(one, longest)));
}

function stageMeans(one) {
  const found = new Map();
  for (const run of one.runs) {
    for (const [stage, value, budget, reused] of run.seconds) {
      const row = found.get(stage) || { stage, budget, values: [], reused: true };
      row.values.push(value);
      row.reused = row.reused && reused;
      row.budget = row.budget || budget;  // only a finished run tells it
      found.set(stage, row);
    }
  }
  return [...found.values()].map(row => ({ ...row, seconds: mean(row.values) }));
}

const total = rows => rows.reduce((all, row) => all + row.seconds, 0);

function secondsBar(one, longest) {
  const rows = stageMeans(one), seen = {}, limits = Object.assign({}, ...one.runs.map(run => run.limits));
  const parts = rows.map(row => {
    const index = seen[row.budget] = (seen[row.budget] ?? -1) + 1;
    const text = `${row.stage}: ${fixed(row.seconds, 1)} s`
      + `${row.budget ? `, ${row.budget} budget` : ''}${row.reused ? ', reused' : ''}`;
    return h('i', { class: `fill-${BUDGETS[row.budget] || 'other'}${row.reused ? ' reused' : ''}`, title: text,
      style: `width:${(100 * row.seconds) / longest}%;opacity:${FADE[Math.min(index, 4)]}` });
  });
  const paid = ['train', 'evaluate'].filter(name => rows.some(row => row.budget === name)).map(name => {
    const used = total(rows.filter(row => row.budget === name));
    const limit = limits[name];
    const over = limit && used > limit;
    return h('span', { class: over ? 'over' : '' }, `${name} ${fixed(used, 1)}`
      + `${limit ? ` of ${whole(limit)} s${over ? ', over the limit' : ''}` : ' s'}`);
  });
  const largest = [...rows].sort((a, b) => b.seconds - a.seconds).slice(0, 3)
    .map(row => `${row.stage} ${fixed(row.seconds, 1)}`).join(', ');
  return h('div', { class: 'seconds' },
    h('div', { class: 'title' }, h('span', {}, swatch(one), one.label), h('span', { class: 'paid' }, paid)),
    h('div', { class: 'bar', role: 'img', 'aria-label': `${one.label}: ${largest || 'no'} seconds` }, parts),
    h('div', { class: 'muted small' }, rows.length ? `longest: ${largest} s` : 'no stage is done yet'));
}

const swatch = one => h('i', { class: 'swatch', style: `background:${one.colour}` });

function tensorsCard(picked, tensors, chosen, set) {
  const found = picked.map(one => ({ one, run: one.runs.find(run => run.tensors) })).filter(p => p.run);
  if (!found.length) return null;
  const { one, run } = found.find(p => p.one.key === chosen) || found[0];
  const rows = tensors[run.tensors.of].map((name, i) => [name, run.tensors.bytes[i]])
    .sort((a, b) => b[1] - a[1]);
  const rest = rows.slice(24);
  const shown = rest.length
    ? [...rows.slice(0, 24), [`${rest.length} smaller ones`, rest.reduce((all, r) => all + r[1], 0)]] : rows;
  const all = rows.reduce((sum, row) => sum + row[1], 0), most = rows[0][1];
  const select = h('select', { 'data-focus': 'tensors', 'aria-label': 'Run whose tensors are shown', onchange: e => set(e.target.value) },
    found.map(p => h('option', { value: p.one.key, selected: p.one === one }, p.one.label)));
  return card('Bytes by tensor', `Encoded, ${whole(all)} bytes in ${rows.length} tensors.`, select,
    h('div', { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'Bytes by tensor' },
      h('table', { class: 'bars' }, h('tbody', {}, shown.map(([name, bytes]) => h('tr', {},
        h('td', {}, name), h('td', { class: 'n' }, whole(bytes)),
        h('td', { class: 'wide' }, h('div', { class: 'bar' },
          h('i', { class: 'fill-train', style: `width:${Math.min(100, (100 * bytes) / most)}%` })))))))));
}

function settingsCard(picked, settings, groups) {
  const keys = [...new Map(picked.map(one => [one.runs[0].group, one])).entries()];
  const rows = settings.map((name, i) => [name, keys.map(([group]) => groups[group].values[i])])
    .filter(([, values]) => new Set(values).size > 1);
  if (keys.length < 2) return null;
  const body = rows.length ? h('div', { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'Settings' },
    h('table', {}, h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'setting'),
      keys.map(([, one]) => h('th', { scope: 'col' }, swatch(one), one.label)))),
    h('tbody', {}, rows.map(([name, values]) => h('tr', {}, h('th', { scope: 'row' }, name),
      values.map(value => h('td', {}, value ?? '–')))))))
    : h('p', { class: 'muted' }, 'These configurations differ in no setting but their seeds.');
  return h('section', { class: 'card whole' }, h('h2', {}, 'Settings that differ'), body);
}
