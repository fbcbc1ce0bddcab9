// The leaderboard: a row an entry, sortable, with the runs behind it at a click.

const COLUMNS = [
  { key: 'label', name: 'configuration', value: one => one.label },
  { key: 'seeds', name: 'seeds', n: true, value: one => one.runs.length,
    text: one => (one.runs.length === 1 ? `${one.runs[0].seed ?? '–'}` : `${one.runs.length} seeds`) },
  { key: 'bpb', name: 'final BPB', n: true, value: one => one.bpb, text: one => fixed(one.bpb, 4) },
  { key: 'std', name: 'std', n: true, value: one => one.std, text: one => fixed(one.std, 4) },
  { key: 'eligible', name: 'eligible', value: one => (one.eligible === null ? null : +!one.eligible),
    text: one => verdict(one) },
  { key: 'bytes', name: 'bytes', n: true, value: one => one.bytes, text: one => whole(one.bytes) },
  { key: 'seconds', name: 'seconds', n: true, value: one => one.seconds, text: one => fixed(one.seconds, 1) },
  { key: 'state', name: 'state', value: one => one.states.join(), text: one => stateText(one) },
];
const ROWS = 120;

function verdict(one) {
  if (one.eligible === null) return '–';
  return h('span', { class: one.eligible ? 'badge good' : 'badge', title: one.why.join(' ') },
    one.eligible ? 'yes' : 'no');
}

function stateText(one) {
  if (one.states.length > 1) return one.states.join(', ');
  const [state] = one.states;
  return state === 'running' ? h('b', { class: 'running' }, `running: ${one.runs[0].stage || 'starting'}`) : state;
}

// What is missing goes last in both directions.
function sorted(entries, key, down) {
  const value = COLUMNS.find(column => column.key === key).value;
  const missing = one => value(one) === null || value(one) === undefined;
  const compare = (a, b) => (typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b);
  return [...entries].sort((a, b) => missing(a) - missing(b)
    || (missing(a) ? 0 : (down ? -1 : 1) * compare(value(a), value(b))));
}

// `act`: sort(key), choose(key, on), open(key), all()
function leaderboard(entries, state, colours, act) {
  const rows = state.all ? entries : entries.slice(0, ROWS);
  const best = Math.min(...entries.map(one => one.bpb).filter(isNumber));
  return [
    h('div', { class: 'scroll tall board', tabindex: 0, role: 'region', 'aria-label': 'Leaderboard' },
      h('table', {},
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, h('span', { class: 'hidden' }, 'chosen')),
          COLUMNS.map(column => headCell(column, state, act)))),
        h('tbody', {}, rows.map(one => entryRows(one, state, colours, best, act)).flat()))),
    rows.length < entries.length ? h('p', {}, h('button', { 'data-focus': 'all', onclick: act.all },
      `Show all ${entries.length} rows`)) : null,
  ];
}

function headCell(column, state, act) {
  const here = state.sort === column.key;
  return h('th', { scope: 'col', class: column.n ? 'n' : '',
                   'aria-sort': here ? (state.down ? 'descending' : 'ascending') : 'none' },
    h('button', { class: 'plain', 'data-focus': `sort-${column.key}`, onclick: () => act.sort(column.key) },
      column.name, h('span', { 'aria-hidden': 'true' }, here ? (state.down ? ' ▾' : ' ▴') : '')));
}

function entryRows(one, state, colours, best, act) {
  const open = state.open.has(one.key), colour = colours.get(one.key);
  const cells = COLUMNS.map(column => {
    const text = column.text ? column.text(one) : one.label;
    if (column.key !== 'label') {
      const strong = column.key === 'bpb' && one.bpb === best;
      return h('td', { class: `${column.n ? 'n' : ''}${strong ? ' best' : ''}` }, text);
    }
    return h('th', { scope: 'row' }, h('button', { class: 'plain name', 'data-focus': `open-${one.key}`,
      'aria-expanded': String(open), onclick: () => act.open(one.key) },
      h('span', { 'aria-hidden': 'true' }, open ? '▾ ' : '▸ '), text));
  });
  const box = h('input', { type: 'checkbox', 'data-focus': `choose-${one.key}`, checked: state.chosen.has(one.key),
    'aria-label': `choose ${one.label}`, onchange: e => act.choose(one.key, e.target.checked) });
  const row = h('tr', { class: state.chosen.has(one.key) ? 'chosen' : '' },
    h('td', { class: 'pick' }, h('label', {}, box,
      h('i', { class: 'swatch', style: `background:${colour || 'transparent'}` }))), cells);
  return open ? [row, detailRow(one)] : [row];
}

function detailRow(one) {
  const runs = [...one.members].sort((a, b) => (a.seed ?? 0) - (b.seed ?? 0));
  return h('tr', { class: 'detail' }, h('td', {}), h('td', { colspan: COLUMNS.length },
    h('ul', {}, runs.map(run => h('li', {},
      `seed ${run.seed ?? '–'}: `, h('b', {}, `${fixed(run.bpb.final, 4)} BPB`), `, ${run.state}, `,
      run.report ? h('a', { href: run.report, 'data-focus': `run-${run.id}` }, `run ${run.run}`) : `run ${run.run}`,
      isNumber(run.control) ? `, for comparison without: ${fixed(run.control, 4)}` : '',
      run.broken ? `, ${run.broken}` : ''))),
    one.why.length ? h('ul', { class: 'muted' }, one.why.map(text => h('li', {}, text))) : null));
}
