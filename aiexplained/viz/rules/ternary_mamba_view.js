// What the figures of Ternary Mamba do with the rule: fill images, bars, lines and texts. Every
// function takes the CustomJS arguments of its figure (aiexplained/viz/ternary_mamba).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.ternary_mamba;
  const SIGNS = [1, -1, 0];
  const PER_UNIT = 8, FARTHEST = 4; // bars of the histogram, as in patch.py
  const ROOM = 1.15; // as in state.py
  const BARS = 2 * PER_UNIT * FARTHEST;

  const grouped = (count) => count.toLocaleString("en-US");
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const whole = (percent) => String(Math.floor(percent + 0.5));
  const short = (percent) => (percent < 9.95 ? percent.toFixed(1) : whole(percent));

  // Numbers come as whole multiples of a step; they are widened once for each figure.
  const widened = new WeakMap();

  function wide({ values, step }) {
    if (!widened.has(values)) {
      widened.set(values, Float64Array.from(values, (value) => value * step));
    }
    return widened.get(values);
  }

  // ---- The patch of weights ----

  function drawPatch(args) {
    const { columns, rows } = args;
    const size = args.sizes[args.size.active];
    const all = wide(args.snapshots);
    const patch = (step) => all.subarray(step * rows * columns, (step + 1) * rows * columns);
    const weights = patch(args.at.value);
    const { codes, scales } = rule.ternarize(weights, columns, size);
    const before = rule.ternarize(patch(0), columns, size).codes;
    const perRow = columns / size;
    const groupOf = (i) => Math.floor(i / columns) * perRow + Math.floor((i % columns) / size);
    const scaleOf = (i) => scales[groupOf(i)];
    const rounded = weights.map((_, i) => scaleOf(i) * codes[i]);
    drawImage(args.weights, weights, [rows, columns]);
    drawImage(args.rounded, rounded, [rows, columns]);
    drawCuts(args.cuts, size, args);
    args.bars.data = { ...args.bars.data, ...countBars(weights, codes, scaleOf) };
    args.groups.data = listGroups(codes, scales, size, columns);
    const said = measurePatch(weights, rounded, codes, size);
    said.flips = codes.filter((code, i) => code !== before[i]).length;
    args.title.text = `Groups of ${size}: ${said.zeros} % zeros, ${said.bits} bits a weight, ` +
      `error ${said.error} %`;
    args.flips.text = headFlips(said, args);
    args.alt.data = { text: [describePatch(said, size, args)] };
  }

  // The array must be of Bokeh's own kind, which knows its shape.
  function drawImage(source, values, shape) {
    const Image = source.data.image[0].constructor;
    source.data = { image: [new Image(values, shape)] };
  }

  function drawCuts(source, size, { columns, rows }) {
    const x = Array.from({ length: columns / size - 1 }, (_, i) => (i + 1) * size);
    if (source.data.x.length === x.length) return;
    source.data = { x, top: x.map(() => 0), bottom: x.map(() => rows) };
  }

  // Bars end at multiples of 1/8, the end away from zero included: none holds two codes.
  function barOf(ratio) {
    const away = Math.min(Math.ceil(PER_UNIT * Math.abs(ratio)) - 1, BARS / 2 - 1);
    if (away < 0) return BARS / 2;
    return ratio > 0 ? BARS / 2 + away : BARS / 2 - 1 - away;
  }

  function countBars(weights, codes, scaleOf) {
    const counts = Object.fromEntries(SIGNS.map((sign) => [`is ${sign}`, Array(BARS).fill(0)]));
    weights.forEach((weight, i) => {
      const scale = scaleOf(i);
      counts[`is ${codes[i]}`][barOf(scale ? weight / scale : 0)] += 1;
    });
    return counts;
  }

  function listGroups(codes, scales, size, columns) {
    const list = { row: [], places: [], scale: [], minus: [], zero: [], plus: [] };
    scales.forEach((scale, group) => {
      const from = group * size;
      const place = from % columns;
      const own = codes.subarray(from, from + size);
      const count = (sign) => own.filter((code) => code === sign).length;
      list.row.push(Math.floor(from / columns) + 1);
      list.places.push(`${place + 1}–${place + size}`);
      list.scale.push(Math.floor(1e5 * scale + 0.5) / 1e5);
      list.minus.push(count(-1));
      list.zero.push(count(0));
      list.plus.push(count(1));
    });
    return list;
  }

  function measurePatch(weights, rounded, codes, size) {
    const share = (sign) => whole((100 * codes.filter((c) => c === sign).length) / codes.length);
    const lost = sum(weights.map((weight, i) => (weight - rounded[i]) ** 2));
    const norm = sum(weights.map((weight) => weight * weight));
    return {
      n: codes.length, zeros: share(0), plus: share(1), minus: share(-1),
      bits: String(Number((2 + 16 / size).toFixed(2))), error: whole(100 * Math.sqrt(lost / norm)),
    };
  }

  function headFlips({ flips, n }, { at, labels }) {
    if (at.value === 0) return `${grouped(n)} weights, cut at half their group's scale`;
    const codes = flips === 1 ? "code differs" : "codes differ";
    return `${grouped(flips)} of ${grouped(n)} ${codes} from step ${labels[0]}`;
  }

  function describePatch({ n, zeros, plus, minus, bits, error, flips }, size, { at, labels }) {
    const since = at.value
      ? ` Since step ${labels[0]}, ${grouped(flips)} codes (${whole((100 * flips) / n)} %) changed.`
      : "";
    return (
      `Step ${labels[at.value]}, groups of ${size}: of ${grouped(n)} weights ${zeros} % become ` +
      `0, ${plus} % +1 and ${minus} % −1. A weight takes ${bits} bits, scales included, and the ` +
      `rounded matrix is off by ${error} % of the weights' norm.${since}`
    );
  }

  // ---- The error of a state ----

  function readHeads(args) {
    const { decay, dt, B, x } = args.heads[args.head.active];
    const head = { decay, dt: wide(dt), B: wide(B), x: wide(x) };
    return [head, { token: wide(args.noise.token), entry: wide(args.noise.entry) }];
  }

  function drawState(args) {
    const [head, noise] = readHeads(args);
    const how = args.hows[args.how.active];
    const options = { what: args.whats[args.what.active], how, at: args.at };
    const run = (size) => rule.stateError(head, noise, { ...options, size });
    const found = run(args.size.value / 100);
    const percent = Array.from(found.error, (value) => 100 * value);
    const { norm, perturbed } = found;
    const token = Array.from(percent, (_, t) => t + 1);
    args.lines.data = { token, norm: Array.from(norm), perturbed: Array.from(perturbed),
                        error: percent };
    scaleAxes(args, run(args.size.end / 100));
    const said = { ...options, ...rule.summarize(percent, args.at), size: args.size.value };
    drawMarks(args, said, percent);
    args.title.text = headState(said);
    args.alt.data = { text: [describeState(said, args, percent.length)] };
  }

  // The axes hold the largest error that the slider can set: they stay while it moves.
  function scaleAxes({ heights, errors }, { norm, perturbed, error }) {
    heights.end = 1.05 * Math.max(...norm, ...perturbed);
    errors.end = 100 * ROOM * (Math.max(...error) || 1);
  }

  function drawMarks(args, { how, half, size }, percent) {
    const nothing = { x: [], y: [], text: [] };
    const { at } = args;
    const once = how === "once" && size > 0;
    for (const span of args.moments) span.visible = once;
    const mark = { x: [at + 1], y: [args.errors.end], text: [`off at token ${at + 1}`] };
    args.mark.data = once ? mark : nothing;
    const place = at + half;
    const gone = { x: [place + 1], y: [percent[place]], text: ["half is gone"] };
    args.half.data = once && half !== null ? gone : nothing;
  }

  const WAYS = { once: "once", random: "at random", same: "at each token" };

  function headState({ what, how, size, half, peak }) {
    if (size === 0) return "Nothing is off: the two states are the same";
    const start = `${what} off by ${size} % ${WAYS[how]}:`;
    if (how !== "once") return `${start} state off by up to ${short(peak)} %`;
    if (half === null) return `${start} half stays to the end`;
    return `${start} half is gone after ${half} token${half === 1 ? "" : "s"}`;
  }

  function describeState({ what, how, size, half, peak, end, at }, args, n) {
    const name = args.labels[args.head.active];
    if (size === 0) return `${name}: nothing is off, and the two states are the same.`;
    const when = {
      once: `at token ${at + 1} alone`, random: "at each token, at random",
      same: "at each token, always the same way",
    };
    const gone = half === null
      ? " Half of the first error is still there at the end."
      : ` Half of the first error is gone after ${half} token${half === 1 ? "" : "s"}.`;
    return (
      `${name}: ${what} is off by ${size} % ${when[how]}. The state is off by up to ` +
      `${short(peak)} % of its usual norm, and by ${short(end)} % after the last of ${n} tokens.` +
      (how === "once" ? gone : "")
    );
  }

  root.aiexplained.rules.ternary_mamba_view = { drawPatch, drawState };
})(globalThis);
