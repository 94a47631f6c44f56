// What CacheWeaver's figures do with the rule: fill column sources and write the caption.
// Every function takes the CustomJS arguments of its figure (see aiexplained/viz/cacheweaver.py).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.cacheweaver;
  const seconds = (value) => `${value.toFixed(2)} s`;
  const percent = (value) => `${Math.round(100 * value)} %`;
  const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  function ttft(engine, readTokens) {
    return engine.overhead_s + engine.per_token_s * readTokens;
  }

  // ---- weave it yourself ---------------------------------------------------------------------

  function openScene(args, scene) {
    const { engine, lengths } = args;
    const tree = new rule.PrefixTree(engine.window);
    const cache = new rule.BlockCache(engine.capacity_blocks, engine.block_size);
    scene.served.forEach((order, request) => {
      cache.insert(cache.keys(runs(order, lengths, engine, request)));
      tree.serve(order);
    });
    return { tree, cache };
  }

  function runs(order, lengths, engine, request) {
    return [
      [0, engine.instruction_tokens],
      ...order.map((passage) => [(passage + 1) * 2 ** 20, lengths[passage]]),
      [-(request + 1) * 2 ** 20, engine.question_tokens],
    ];
  }

  function score(args, opened, order) {
    const parts = runs(order, args.lengths, args.engine, 999);
    const total = parts.reduce((sum, [, count]) => sum + count, 0);
    const keys = opened.cache.keys(parts);
    const cached = opened.cache.match(keys, total) * args.engine.block_size;
    return { cached, total, depth: opened.tree.depth(order), ttft: ttft(args.engine, total - cached) };
  }

  function weave(args, action) {
    const scene = args.scenes[args.scene.active];
    const opened = openScene(args, scene);
    const orders = {
      retrieval: scene.retrieved,
      greedy: rule.weave(scene.retrieved, opened.tree),
      best: rule.deepest(scene.retrieved, opened.tree),
    };
    let order = args.state.data.order.map(Number);
    if (action === "scene") order = orders.retrieval;
    else if (action in orders) order = orders[action];
    else if (action === "earlier" || action === "later") order = shifted(args, order, action);
    else if (Array.isArray(action)) order = action;
    args.state.data = { order: [...order] };
    const scores = Object.fromEntries(
      Object.entries({ ...orders, yours: order }).map(([k, o]) => [k, score(args, opened, o)])
    );
    drawPrompt(args, order, scores.yours.cached);
    drawTree(args, opened.tree, order.slice(0, scores.yours.depth));
    args.bars.data = {
      ...args.bars.data,
      ttft_s: ["best", "greedy", "retrieval", "yours"].map((k) => scores[k].ttft),
      label: ["best", "greedy", "retrieval", "yours"].map((k) => seconds(scores[k].ttft)),
    };
    if (action === "scene") {
      args.pick.options = scene.retrieved.map((p) => [String(p), `passage ${args.names[p]}`]);
      args.pick.value = String(scene.retrieved[0]);
    }
    args.alt.data = { text: [weaveText(args, order, scores)] };
  }

  function shifted(args, order, action) {
    const at = order.indexOf(Number(args.pick.value));
    const to = Math.min(Math.max(at + (action === "earlier" ? -1 : 1), 0), order.length - 1);
    return moved(order, at, to);
  }

  function moved(order, at, to) {
    const out = [...order];
    out.splice(to, 0, ...out.splice(at, 1));
    return out;
  }

  function drawPrompt(args, order, cached) {
    const { engine, lengths, names } = args;
    const parts = [
      [engine.instruction_tokens, "instructions", ""],
      ...order.map((p) => [lengths[p], `passage ${names[p]}`, names[p]]),
      [engine.question_tokens, "question", "?"],
    ];
    const boxes = { left: [], right: [], part: [], state: [], reused: [], read: [] };
    const labels = { x: [], text: [] };
    let start = 0;
    for (const [count, part, letter] of parts) {
      const cut = Math.min(Math.max(cached - start, 0), count);
      for (const [from, to, isReused] of [[0, cut, true], [cut, count, false]]) {
        if (from === to) continue;
        boxes.left.push(start + from);
        boxes.right.push(start + to);
        boxes.part.push(part);
        boxes.state.push(isReused ? "from the cache" : "must be read");
        boxes.reused.push(isReused ? 1 : 0);
        boxes.read.push(isReused ? 0 : 1);
      }
      labels.x.push(start + count / 2);
      labels.text.push(letter);
      start += count;
    }
    args.prompt.data = boxes;
    args.letters.data = labels;
  }

  function drawTree(args, tree, matched) {
    const nodes = { x: [0], y: [0], text: ["start"], path: ["start"], on: [1], fade: [1] };
    let row = 0;
    const place = (node, path, on) => {
      const live = [...node.children].filter(([, child]) => tree.isCached(child));
      const ys = [];
      for (const [passage, child] of live) {
        const name = [...path, passage];
        const onPath = on && matched[path.length] === passage;
        const y = place(child, name, onPath);
        ys.push(y);
        nodes.x.push(name.length);
        nodes.y.push(y);
        nodes.text.push(args.names[passage]);
        nodes.path.push(name.map((p) => args.names[p]).join(" "));
        nodes.on.push(onPath ? 1 : 0);
        nodes.fade.push(onPath ? 1 : 0.25 + 0.75 * 0.6 ** (tree.clock - child.lastUsed));
      }
      return ys.length ? ys.reduce((a, b) => a + b, 0) / ys.length : -row++;
    };
    nodes.y[0] = place(tree.top, [], true);
    args.nodes.data = nodes;
    args.edges.data = edgesOf(nodes);
  }

  // One edge a node but the first: from its parent's row, known once all children are placed.
  function edgesOf(nodes) {
    const rowOf = new Map(nodes.path.map((path, i) => [path, nodes.y[i]]));
    const parent = (path) => path.split(" ").slice(0, -1).join(" ") || "start";
    return {
      xs: nodes.x.slice(1).map((x) => [x - 1, x]),
      ys: nodes.path.slice(1).map((path, i) => [rowOf.get(parent(path)), nodes.y[i + 1]]),
      on: nodes.on.slice(1),
    };
  }

  function weaveText(args, order, scores) {
    const letters = order.map((p) => args.names[p]).join(" ");
    const { yours, greedy, best } = scores;
    const reuse = yours.depth === 0
      ? "no served prompt opens like this, so every passage must be read"
      : yours.depth === 1 ? "the first passage can be reused"
      : `the first ${yours.depth} passages can be reused`;
    let verdict = "This is as good as any order can be.";
    if (yours.ttft > best.ttft + 1e-9) {
      verdict = `The greedy walk would take ${seconds(greedy.ttft)}, the best order ${seconds(best.ttft)}.`;
    } else if (yours.ttft < greedy.ttft - 1e-9) {
      verdict = `You beat the greedy walk, which takes ${seconds(greedy.ttft)}.`;
    } else if (best.depth === 0) {
      verdict = "No order helps: every served opening starts with a passage that is not in this set.";
    }
    return `Order ${letters}: ${reuse}; the first token comes after ${seconds(yours.ttft)}. ${verdict}`;
  }

  // Dragging: the passage under the pointer moves to where the pointer is.
  function drag(args, event) {
    const order = args.state.data.order.map(Number);
    const edges = [args.engine.instruction_tokens];
    for (const passage of order) edges.push(edges.at(-1) + args.lengths[passage]);
    const slot = Math.min(Math.max(edges.findIndex((edge) => event.x < edge) - 1, 0), order.length - 1);
    const inside = event.x >= edges[0] && event.x < edges.at(-1);
    const target = event.x >= edges.at(-1) ? order.length - 1 : slot;
    if (event.event_name === "panstart") {
      args.state.tags = inside ? [order[slot]] : [];
    } else if (event.event_name === "pan" && args.state.tags.length) {
      const at = order.indexOf(args.state.tags[0]);
      if (at !== target) weave(args, moved(order, at, target));
    } else if (event.event_name === "panend") {
      args.state.tags = [];
    }
  }

  // ---- the trace scrubber --------------------------------------------------------------------

  function rows(flat, width, k) {
    const out = [];
    for (let i = 0; i < flat.length; i += width) out.push([...flat.slice(i, i + k)]);
    return out;
  }

  const replays = new WeakMap(); // figure's source -> its last two runs

  function scrub(args, replay) {
    const { engine, lengths, sliders } = args;
    if (replay || !replays.has(args.strips)) {
      const flat = args.traces.data[`trace ${sliders.zipf.value} ${sliders.session.value}`];
      const trace = rows(flat, args.width, sliders.k.value);
      const setup = {
        ...engine,
        capacity_blocks: args.capacities[sliders.capacity.value],
        window: args.windows[sliders.window.value],
      };
      const pair = ["retrieval", "greedy"].map((p) => rule.simulate(trace, lengths, p, setup));
      replays.set(args.strips, pair);
    }
    const [retrieval, woven] = replays.get(args.strips);
    const played = sliders.played.value;
    if (replay) {
      args.strips.data = {
        request: retrieval.total.map((_, i) => i + 1),
        retrieval_cached: retrieval.cached,
        woven_cached: woven.cached,
        total: retrieval.total,
      };
    }
    args.curtain.data = { left: [played + 0.5], right: [retrieval.total.length + 1] };
    args.alt.data = { text: [scrubText(engine, retrieval, woven, played)] };
  }

  function upTo(engine, run, n) {
    const sum = (values) => values.slice(0, n).reduce((a, b) => a + b, 0);
    const times = run.total.slice(0, n).map((total, i) => ttft(engine, total - run.cached[i]));
    return { share: sum(run.cached) / sum(run.total), median: rule.median(times) };
  }

  function scrubText(engine, retrieval, woven, played) {
    const [a, b] = [retrieval, woven].map((run) => upTo(engine, run, played));
    const change = b.median / a.median - 1;
    const sign = change > 0 ? "+" : change < 0 ? "−" : "±";
    return (
      `After ${plural(played, "request")}: in retrieval order ${percent(a.share)} of the prompt ` +
      `tokens came from the cache and the median wait was ${seconds(a.median)}; woven, ` +
      `${percent(b.share)} and ${seconds(b.median)} (${sign}${Math.abs(100 * change).toFixed(0)} %).`
    );
  }

  function play(args) {
    const slider = args.sliders.played;
    if (root.aiexplained.reducedMotion?.()) {
      slider.value = slider.end;
      return;
    }
    slider.value = 1;
    const step = () => {
      if (slider.value >= slider.end) return;
      slider.value += 1;
      setTimeout(step, 40);
    };
    step();
  }

  // ---- when it fails -------------------------------------------------------------------------

  function fail(args) {
    const { engine, lengths } = args;
    const policy = args.policies[args.policy.active];
    const oneOff = args.oneOff.active;
    const base = rows(args.trace.data.passage, args.width, args.width);
    const trace = base.map((row, i) => (oneOff ? [args.firstOneOff + i, ...row.slice(0, -1)] : row));
    const run = rule.simulate(trace, lengths, policy, engine);
    const fixed = engine.instruction_tokens + engine.question_tokens;
    const share = run.total.map(
      (total, i) => Math.max(run.cached[i] - engine.instruction_tokens, 0) / (total - fixed)
    );
    const mean = share.reduce((a, b) => a + b, 0) / share.length;
    args.strip.data = { request: share.map((_, i) => i + 1), share: share.map((s) => 100 * s) };
    const start = oneOff ? "Each request starts with a passage never seen again" : "Ordinary requests";
    args.alt.data = {
      text: [`${start}; ${args.labels[args.policy.active]}: ${percent(mean)} of the passages come from the cache.`],
    };
  }

  root.aiexplained.rules.cacheweaver_view = { weave, drag, scrub, play, fail };
})(globalThis);
