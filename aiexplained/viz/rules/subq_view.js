// What the matrix of SubQ does with the selectors: fill its images, marks, counters and texts.
// Every function takes the CustomJS arguments of its figure (aiexplained/viz/subq).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.subq;
  const grouped = (count) => Math.round(count).toLocaleString("en-US");

  // Numbers come as whole multiples of args.step; they are widened once for each figure.
  const widened = new WeakMap();

  function numbers(args) {
    if (!widened.has(args.given)) {
      const wide = (values) => Float64Array.from(values, (value) => value * args.step);
      const given = Object.entries(args.given).map(([name, values]) => [name, wide(values)]);
      widened.set(args.given, Object.fromEntries(given));
    }
    return widened.get(args.given);
  }

  function choose(args) {
    const { query, key, needle, planes, centroids, narrow } = numbers(args);
    const at = args.needle.value;
    const dim = needle.length;
    const text = { nTokens: key.length / dim, dim, query, key: key.slice() };
    text.key.set(needle, at * dim);
    const settings = { ...args.options, budget: args.budget.value, planes, centroids, narrow };
    const found = rule.select(args.names[args.selector.active], text, settings);
    return { ...found, text, at };
  }

  function draw(args) {
    const found = choose(args);
    const n = found.text.nTokens;
    const last = found.state.subarray(n * (n - 1));
    drawImage(args.matrix, found.state, [n, n]);
    drawImage(args.row, last, [1, n]);
    const keys = listKeys(found, last);
    args.keys.data = keys;
    const pairs = found.state.reduce((total, s) => total + (s >= rule.NEW), 0);
    const counts = [2 * pairs, found.dots, n * (n + 1)];
    drawCosts(args.costs, counts);
    const read = last[found.at] >= rule.NEW;
    drawMark(args, found.at, read, n);
    const how = args.labels[args.selector.active];
    const what = { how, budget: args.budget.value, read, at: found.at, n, counts };
    what.keys = keys.key.length;
    args.title.text = headline(what);
    args.alt.data = { text: [describe(what)] };
  }

  // Most selectors cost the same wherever the needle lies: then the bars are not painted again.
  function drawCosts(source, counts) {
    if (String(source.data.count) === String(counts)) return;
    source.data = { ...source.data, count: counts, label: counts.map(grouped) };
  }

  // The array must be of Bokeh's own kind, which knows its shape.
  function drawImage(source, state, shape) {
    const Image = source.data.image[0].constructor;
    source.data = { image: [new Image(state.slice(), shape)] };
  }

  function listKeys({ text, at }, last) {
    const keys = Array.from(last.keys()).filter((i) => last[i] >= rule.NEW);
    const why = (i) => (last[i] === rule.NEW ? "new" : "chosen") + (i === at ? ", the needle" : "");
    const score = (i) => rule.dot(text.query, text.nTokens - 1, text.key, i, text.dim);
    const scores = keys.map((i) => Math.round(1e3 * score(i)) / 1e3);
    return { key: keys, why: keys.map(why), score: scores };
  }

  function drawMark(args, at, read, n) {
    args.mark.data = {
      ...args.mark.data,
      x: [at + 0.5],
      top: [at],
      label_x: [Math.min(Math.max(at, args.margin * n), (1 - args.margin) * n)],
      text: [read ? "✓ needle read" : "✗ needle missed"],
    };
  }

  function headline({ how, keys, n, read }) {
    const needle = read ? ", the needle among them" : " and misses the needle";
    return `${how}: the last query reads ${keys} of ${n} keys${needle}`;
  }

  function describe({ how, budget, keys, n, at, read, counts: [reading, choosing, all] }) {
    return (
      `${how}, at most ${budget} keys a query: the last query reads ${keys} of ${n} keys, and ` +
      `the needle, key ${at}, is ${read ? "" : "not "}among them. All queries together read ` +
      `${grouped(reading / 2)} of ${grouped(all / 2)} pairs; reading took ${grouped(reading)} and ` +
      `choosing ${grouped(choosing)} products of two vectors.`
    );
  }

  // Dragging: across chooses the key that the needle takes the place of.
  function drag(args, event) {
    const { start, end } = args.needle;
    args.needle.value = Math.min(Math.max(Math.floor(event.x), start), end);
  }

  root.aiexplained.rules.subq_view = { draw, drag };
})(globalThis);
