// What is shown and what changes it. The address's part behind # keeps the view, so it can be shared.

const data = JSON.parse(document.getElementById('data').textContent);
const SERIES = 8;
const state = {
  sort: 'bpb', down: false, query: '', show: 'all', seeds: true, axis: 'step', part: 'late', tensors: '', all: false,
  chosen: new Set(), open: new Set(), failed: false, theme: '',
};
const FILTERS = [
  ['all', 'all runs', () => true],
  ['eligible', 'eligible', one => one.eligible === true],
  ['not', 'not eligible', one => one.eligible === false],
  ['finished', 'finished', one => one.states.includes('finished')],
  ['unfinished', 'not finished', one => one.states.some(name => name !== 'finished')],
];
const areas = {};

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const known = (key, values) => { if (values.includes(found.get(key))) state[key] = found.get(key); };
  known('sort', COLUMNS.map(column => column.key));
  known('show', FILTERS.map(([name]) => name));
  known('axis', AXES.map(([name]) => name));
  known('part', PARTS.map(([name]) => name));
  known('theme', ['light', 'dark']);
  state.down = found.get('down') === '1';
  state.seeds = found.get('by') !== 'run';
  state.query = found.get('query') || '';
  state.chosen = new Set((found.get('chosen') || '').split(',').filter(Boolean));
}

function writeAddress() {
  const kept = new URLSearchParams();
  if (state.sort !== 'bpb') kept.set('sort', state.sort);
  if (state.down) kept.set('down', '1');
  if (state.show !== 'all') kept.set('show', state.show);
  if (state.axis !== 'step') kept.set('axis', state.axis);
  if (state.part !== 'late') kept.set('part', state.part);
  if (state.query) kept.set('query', state.query);
  if (!state.seeds) kept.set('by', 'run');
  if (state.theme) kept.set('theme', state.theme);
  if (state.chosen.size) kept.set('chosen', [...state.chosen].join(','));
  history.replaceState(null, '', `#${kept}`);
}

function change(values) {
  Object.assign(state, values);
  writeAddress();
  render();
}

const act = {
  sort: key => change(key === state.sort ? { down: !state.down } : { sort: key, down: false }),
  choose: (key, on) => { state.chosen[on ? 'add' : 'delete'](key); change({}); },
  open: key => { state.open[state.open.has(key) ? 'delete' : 'add'](key); change({}); },
  all: () => change({ all: true }),
};

function visibleEntries() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = FILTERS.find(([name]) => name === state.show)[2];
  const entries = makeEntries(data.rows, data.groups, state.seeds)
    .filter(one => passes(one) && words.every(word => one.text.includes(word)));
  return sorted(entries, state.sort, state.down);
}

// The chosen ones, or else the first of the table; a colour stays with an entry while it is picked.
const taken = new Map();

function pick(entries) {
  const chosen = entries.filter(one => state.chosen.has(one.key));
  const picked = (chosen.length ? chosen : entries).slice(0, SERIES);
  const keys = new Set(picked.map(one => one.key));
  for (const key of [...taken.keys()]) if (!keys.has(key)) taken.delete(key);
  for (const one of picked) {
    if (!taken.has(one.key)) {
      const used = new Set(taken.values());
      taken.set(one.key, [...Array(SERIES).keys()].find(i => !used.has(i)));
    }
  }
  return picked.map(one => ({ ...one, colour: `var(--series-${taken.get(one.key)})` }));
}

// Bytes of each text; what may be the same as the one before it, as pgolf.report.texts has it.
function distinctTexts(scored) {
  const texts = [];
  let reached = -1;
  for (const [size, within] of scored.sort(([a], [b]) => a - b)) {
    if (size - within > reached) texts.push(size);
    reached = Math.max(reached, size + within);
  }
  return texts;
}

function aboutPicked(picked, entries) {
  const chosen = entries.filter(one => state.chosen.has(one.key)).length;
  const text = chosen > SERIES ? `The charts show the first ${SERIES} of ${chosen} chosen:`
    : chosen ? 'The charts show what is chosen:'
      : entries.length > SERIES ? `The charts show the first ${SERIES} rows; choose others by their boxes:`
        : 'The charts show:';
  // Bits per byte of other texts are other numbers.
  const texts = distinctTexts(picked.flatMap(one => one.runs.map(run => run.scored)).filter(Boolean));
  return [h('span', { class: 'muted' }, text),
    picked.map(one => h('span', { class: 'chip' }, swatch(one), one.label)),
    chosen ? h('button', { 'data-focus': 'none', onclick: () => change({ chosen: new Set() }) },
      'Choose none') : null,
    texts.length > 1 ? h('b', { class: 'over', role: 'status' },
      `Scored on different texts (${texts.map(whole).join('; ')} bytes): do not compare their bits per byte.`) : null].flat();
}

function render() {
  const focused = focusName(document.activeElement);
  const scrolls = new Map([...document.querySelectorAll('.scroll')].map(e =>
    [e.getAttribute('aria-label'), [e.scrollLeft, e.scrollTop]]));
  const entries = visibleEntries(), picked = pick(entries);
  const byId = new Map(data.rows.map(run => [run.id, run]));
  const runs = entries.reduce((sum, one) => sum + one.members.length, 0);
  areas.count.textContent = `${runs} of ${data.rows.length} runs`
    + (state.seeds ? `, ${entries.length} configuration${entries.length === 1 ? '' : 's'}` : '');
  areas.table.replaceChildren(...leaderboard(entries, state,
    new Map(picked.map(one => [one.key, one.colour])), act).filter(Boolean));
  areas.failed.replaceChildren(...failures());
  areas.picked.replaceChildren(...aboutPicked(picked, entries).filter(Boolean));
  const cards = [
    stagesCard(picked),
    lossCard(picked, byId, state, change),
    epochsCard(picked, entries),
    bytesCard(picked, entries, data.limit),
    gainCard(picked),
    documentsCard(picked),
    secondsCard(picked),
    tensorsCard(picked, data.tensors, state.tensors, tensors => change({ tensors })),
    settingsCard(picked, data.settings, data.groups),
  ].filter(Boolean);
  // Two stand beside each other; one that is left over takes the whole width.
  const halves = cards.filter(one => !one.classList.contains('whole'));
  if (halves.length % 2) halves[halves.length - 1].classList.add('whole');
  areas.charts.replaceChildren(...cards);
  for (const e of document.querySelectorAll('.scroll')) {
    const [left, top] = scrolls.get(e.getAttribute('aria-label')) || [0, 0];
    if (left || top) e.scrollTo(left, top);
  }
  refocus(focused);
  queueMicrotask(() => refocus(focused));  // charts are drawn later than their cards
}

// What was reached by keyboard is made anew with the rest: these find it again.
const focusName = e => e && (e.dataset.focus || (e.hasAttribute('tabindex') && e.getAttribute('aria-label')));

function refocus(name) {
  if (!name || focusName(document.activeElement) === name) return;
  const again = [...document.querySelectorAll('[data-focus],[tabindex]')].find(e => focusName(e) === name);
  if (again) again.focus({ preventScroll: true });
}

function failures() {
  if (!data.failed.length) return [];
  return [h('details', { class: 'card whole', open: state.failed, ontoggle: e => { state.failed = e.target.open; } },
    h('summary', { 'data-focus': 'failed' }, `${data.failed.length} failed job${data.failed.length > 1 ? 's' : ''}`),
    h('ul', {}, data.failed.map(([job, reason]) => h('li', {}, h('b', {}, job), `: ${reason}`))))];
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

const isDark = () => (state.theme ? state.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches);

function build() {
  areas.count = h('span', { class: 'muted', role: 'status' });
  areas.live = h('span', { class: 'muted', role: 'status' });
  for (const [name, css] of [['table', ''], ['failed', ''], ['picked', 'picked'], ['charts', 'grid']]) {
    areas[name] = h('div', { class: css });
  }
  const theme = h('button', { onclick: () => {
    state.theme = isDark() ? 'light' : 'dark';
    setTheme(state.theme);
    writeAddress();
  } }, 'Light / dark');
  const query = h('input', { type: 'search', id: 'query', value: state.query, placeholder: 'filter, e.g. ttt=none',
    'aria-label': 'Filter by words', oninput: e => change({ query: e.target.value }) });
  const show = h('select', { 'aria-label': 'Which runs', onchange: e => change({ show: e.target.value }) },
    FILTERS.map(([name, label]) => h('option', { value: name, selected: name === state.show }, label)));
  const seeds = h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: state.seeds,
    onchange: e => change({ seeds: e.target.checked, chosen: new Set() }) }), 'seeds together');
  document.getElementById('page').replaceChildren(
    h('header', {}, h('h1', {}, data.title), areas.count, areas.live, theme),
    h('section', { class: 'card whole' }, h('div', { class: 'controls' }, query, show, seeds), areas.table),
    areas.failed, areas.picked, areas.charts);
}

// A served page asks for what is newer than it has; a page in a file has all there will be.
async function follow() {
  if (!data.live) return;
  if (document.visibilityState === 'visible') await news();
  setTimeout(follow, data.live.every_ms);
}

async function news() {
  try {
    const answer = await fetch(`data?since=${encodeURIComponent(data.live.version)}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const { ids, rows, shared, version } = await answer.json();
    const running = () => data.rows.filter(run => run.state === 'running').length;
    if (version !== data.live.version) {
      const known = new Map([...data.rows, ...rows].map(run => [run.id, run]));
      Object.assign(data, shared, { rows: ids.map(id => known.get(id)) });
      data.live.version = version;
      render();
    }
    areas.live.textContent = `live, ${running()} running`;
  } catch {
    areas.live.textContent = 'connection lost, trying again';
  }
}

readAddress();
setTheme(state.theme);
build();
render();
follow();
