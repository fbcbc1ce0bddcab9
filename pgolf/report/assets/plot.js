// One chart: axes, bands, lines, dots. Drawn in the pixels that it has, so text keeps its size.

const MARGIN = { left: 52, right: 16, top: 26, bottom: 40 };

// About `count` round values (1, 2, 2.5 or 5 times a power of ten apart) within the range.
function niceTicks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(m => m >= rough * (1 - 1e-9));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const m of [1, 2, 5]) ticks.push(m * 10 ** power);
  }
  return ticks.filter(tick => tick >= low && tick <= high);
}

function tickText(ticks) {
  const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : Math.abs(ticks[0]) || 1;
  if (step >= 1000) return ticks.map(short);
  let digits = 0;
  while (digits < 6 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return ticks.map(tick => tick.toFixed(digits));
}

function padded(values, part) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = (high - low || Math.abs(high) * 0.02 || 1) * part;
  return [low - room, high + room];
}

const extent = values => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)],
  [Infinity, -Infinity]);

// Draws into `host` and again when its width changes.
//   series: { label, colour, line: [[x, y]], thin: [[[x, y]]], range: [[x, low, high]],
//             dots: [{ x, y, title, hollow }] }, each but the label optional
//   readout: values at the pointer are written below; with the keyboard, arrows move it
//   x: { title, log, room: on both sides, whole: numbers only, names: text of 0, 1, 2... }, y: { title }, marks: [{ x, label }]
function plot(host, options) {
  let width = 0;
  const redraw = () => {
    const now = Math.round(host.clientWidth);
    if (!now || now === width) return;
    width = now;
    const { picture, place } = drawing(width, options);
    host.replaceChildren(picture);
    if (place && options.readout) addReadout(host, picture, place, options);
  };
  new ResizeObserver(redraw).observe(host);
  redraw();
}

// Where each chart's cursor is: a chart that is drawn again keeps it.
const cursors = new Map();

// Lines' values at one place: where the pointer is, or a step of the arrow keys further.
function addReadout(host, picture, { px, low, high, height }, { series, x, label }) {
  const lines = series.filter(one => one.line && one.line.length > 1);
  const cursor = s('line', { class: 'cursor', y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: 'hidden' });
  const text = h('div', { class: 'readout small', 'aria-live': 'polite' });
  let at = high;
  const move = value => {
    at = Math.min(high, Math.max(low, value));
    cursors.set(label, at);
    fill(cursor, { x1: px(at), x2: px(at), visibility: 'visible' }, []);
    const here = lines.filter(({ line }) => at >= line[0][0] && at <= line[line.length - 1][0]);
    text.replaceChildren(h('span', {}, `${x.title} ${short(Math.round(at))}:`), ...here.map(one =>
      h('span', {}, swatch(one), fixed(valueAt(one.line, at), 4), h('span', { class: 'hidden' }, ` ${one.label}`))));
  };
  const keys = { ArrowLeft: -0.02, ArrowRight: 0.02, PageUp: -0.1, PageDown: 0.1, Home: -1, End: 1 };
  picture.append(cursor);
  host.append(text);
  fill(picture, { tabindex: 0,
    onpointermove: e => {
      const part = (e.offsetX - px(low)) / (px(high) - px(low));
      move(low + part * (high - low));
    },
    onkeydown: e => {
      if (!(e.key in keys)) return;
      e.preventDefault();
      move(at + keys[e.key] * (high - low));
    } }, []);
  if (cursors.has(label)) move(cursors.get(label));
}

function drawing(width, { series, x, y, marks = [], label }) {
  const height = width < 420 ? 240 : 280;
  const points = series.flatMap(one => [
    ...(one.line || []), ...(one.thin || []).flat(), ...(one.dots || []).map(d => [d.x, d.y]),
    ...(one.range || []).flatMap(([at, low, high]) => [[at, low], [at, high]]),
  ]);
  if (!points.length) return { picture: h('p', { class: 'muted' }, 'Nothing to draw yet.') };
  const xs = [...points.map(p => p[0]), ...marks.map(m => m.x)], ys = points.map(p => p[1]);
  const [lowX, highX] = rangeOfX(xs, x);
  const [lowY, highY] = padded(extent(ys), 0.08);
  const scale = x.log ? Math.log : value => value;
  const px = value => MARGIN.left + (highX > lowX
    ? ((scale(value) - scale(lowX)) / (scale(highX) - scale(lowX))) : 0.5)
    * (width - MARGIN.left - MARGIN.right);
  const py = value => height - MARGIN.bottom
    - ((value - lowY) / (highY - lowY)) * (height - MARGIN.top - MARGIN.bottom);
  const place = { width, height, px, py, low: lowX, high: highX };
  const picture = s('svg', { class: 'chart', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img',
                    'aria-label': label },
    yAxis(place, niceTicks(lowY, highY, 4), y.title),
    xAxis(place, x, lowX, highX),
    marks.map(mark => markLine(place, mark)),
    series.map(one => drawSeries(place, one)));
  return { picture, place };
}

function rangeOfX(xs, x) {
  if (x.names) return [-0.4, x.names.length - 0.6];
  const [low, high] = extent(xs);
  if (x.log) return [low / 1.3, high * 1.3];
  if (x.room) return padded([low, high], 0.06);
  return [low < 0.25 * high && low >= 0 ? 0 : low, high];
}

function yAxis({ width, py }, ticks, title) {
  const texts = tickText(ticks);
  return [
    ticks.map((tick, i) => [
      s('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: py(tick), y2: py(tick) }),
      s('text', { x: MARGIN.left - 7, y: py(tick) + 4, 'text-anchor': 'end' }, texts[i]),
    ]).flat(),
    s('text', { x: 0, y: 11 }, title),
  ].flat();
}

function xAxis({ width, height, px }, x, low, high) {
  const base = height - MARGIN.bottom;
  const count = width < 420 ? 4 : 6;
  let ticks, texts;
  if (x.names) [ticks, texts] = [x.names.map((_, i) => i), x.names];
  else {
    ticks = x.log ? logTicks(low, high) : niceTicks(low, high, count);
    while (x.log && ticks.length > count + 1) ticks = ticks.filter((_, i) => i % 2 === 0);
    if (x.whole) ticks = ticks.filter(Number.isInteger);
    texts = x.log ? ticks.map(short) : tickText(ticks);
  }
  return [
    s('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: base, y2: base }),
    ...ticks.map((tick, i) => s('text', { x: px(tick), y: base + 17, 'text-anchor': 'middle' }, texts[i])),
    s('text', { x: width - MARGIN.right, y: height - 5, 'text-anchor': 'end' }, x.title),
  ];
}

function markLine({ height, px }, mark) {
  const at = px(mark.x);
  return s('g', { class: 'mark' },
    s('line', { x1: at, x2: at, y1: MARGIN.top - 6, y2: height - MARGIN.bottom }),
    s('text', { x: at - 5, y: MARGIN.top + 4, 'text-anchor': 'end' }, mark.label));
}

function drawSeries({ px, py }, one) {
  const path = points => points.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(' ');
  const parts = [];
  if (one.range && one.range.length) {
    const up = one.range.map(([a, , high]) => [a, high]);
    const down = one.range.map(([a, low]) => [a, low]).reverse();
    parts.push(s('polygon', { class: 'range', points: path([...up, ...down]) }));
  }
  for (const thin of one.thin || []) parts.push(s('polyline', { class: 'thin', points: path(thin) }));
  if (one.line) {
    parts.push(s('polyline', { class: 'line', points: path(one.line) }, s('title', {}, one.label)));
  }
  for (const dot of one.dots || []) {
    parts.push(s('circle', { class: dot.hollow ? 'dot hollow' : 'dot', r: dot.hollow ? 4 : 4.5,
                             cx: px(dot.x).toFixed(1), cy: py(dot.y).toFixed(1) },
      s('title', {}, dot.title)));
  }
  return s('g', { class: 'series', style: `--colour: ${one.colour}` }, parts);
}
