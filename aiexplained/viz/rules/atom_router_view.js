// What the figure of ATOMesh's router does with the rule (see aiexplained/viz/atom/routes.py).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.atom_router;
  const percent = (share) => `${Math.round(100 * share)} %`;
  const codes = (text) => Array.from(text, (letter) => letter.codePointAt(0));

  function send(args) {
    if (args.sent.value < args.sent.end) args.sent.value += 1; // which draws
  }

  function draw(args) {
    const name = args.names[args.policy.active];
    const sent = args.sent.value;
    const requests = args.prompts
      .slice(0, sent)
      .map(([session, text]) => ({ session, text, prompt: codes(text) }));
    const options = { ...args.options[name] };
    if (name === "cache aware") options.match_threshold = args.threshold.value;
    const chosen = rule.replay(requests, name, options, args.setup);
    const plain = rule.replay(requests, "round robin", {}, args.setup);
    const [last, request] = [chosen.steps.at(-1), requests.at(-1)];
    const shares = [chosen, plain].map((run) => shareFound(run.steps, requests));
    drawTree(args, chosen.cache, request.prompt);
    args.loads.data = { ...args.loads.data, chosen: last.loads, plain: plain.steps.at(-1).loads };
    args.shares.data = {
      ...args.shares.data,
      share: shares.map((share) => 100 * share),
      label: shares.map(percent),
    };
    args.title.text = `#${sent} → engine ${last.engine + 1} (${last.reason})`;
    args.alt.data = { text: [tell(args, name, last, request, shares)] };
  }

  function shareFound(steps, requests) {
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    return sum(steps.map((s) => s.found)) / sum(requests.map((r) => r.prompt.length));
  }

  function tell(args, name, last, request, shares) {
    const { sent, prompts, threshold, setup, policy } = args;
    const total = request.prompt.length;
    const label = policy.labels[policy.active];
    const rate = name !== "cache aware" ? "" :
      ` The best match of any engine is ${percent(last.best / total)}; it must exceed ` +
      `${percent(threshold.value)}.`;
    return (
      `${label}: request ${sent.value} of ${prompts.length}, “${request.text}”, goes to engine ` +
      `${last.engine + 1} (${last.reason}), which has ${last.found} of its ${total} letters in ` +
      `its cache.${rate} The engines hold ${last.loads.join(", ")} of the last ${setup.stay} ` +
      `requests. So far ${percent(shares[0])} of all letters were found in a cache; in turn ` +
      `(round robin) it would be ${percent(shares[1])}.`
    );
  }

  // A text reads from left to right, a letter a unit; a branch hangs below the text it leaves.
  function drawTree(args, tree, prompt) {
    const letters = { x: [], y: [], letter: [] };
    const held = Array.from({ length: args.setup.engines }, () => ({ left: [], right: [], y: [] }));
    const branches = { x: [], top: [], bottom: [] };
    const path = { left: [], right: [], top: [], bottom: [] };
    let rows = 0;
    const place = (node, start, row, onPath) => {
      const end = start + node.text.length;
      node.text.forEach((code, i) => {
        letters.x.push(start + i + 0.5);
        letters.y.push(-row + 0.28);
        letters.letter.push(String.fromCodePoint(code));
      });
      for (const engine of node.used.keys()) {
        held[engine].left.push(start + 0.08);
        held[engine].right.push(end - 0.08);
        held[engine].y.push(-row - args.lanes[engine]);
      }
      if (onPath) {
        path.left.push(start);
        path.right.push(end);
        path.top.push(-row + 0.45);
        path.bottom.push(-row - 0.45);
      }
      let first = true;
      for (const child of node.children.values()) {
        const below = first && node.parent !== null ? row : rows++;
        if (!first) {
          branches.x.push(end);
          branches.top.push(-row + 0.28);
          branches.bottom.push(-below + 0.28);
        }
        place(child, end, below, onPath && prompt[end] === child.text[0]);
        first = false;
      }
    };
    place(tree.root, 0, 0, true);
    args.letters.data = letters;
    args.branches.data = branches;
    args.path.data = path;
    args.held.forEach((source, engine) => {
      source.data = held[engine];
    });
  }

  root.aiexplained.rules.atom_router_view = { draw, send };
})(globalThis);
