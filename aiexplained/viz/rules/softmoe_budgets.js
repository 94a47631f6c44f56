// Layers that compete for a fixed sum: the same as `LayerBudgets` in
// aiexplained/concepts/softmoe/routing.py, a test runs both; and what the figure of them
// (aiexplained/viz/softmoe/budgets.py) does when a control moves.
(function (root) {
  "use strict";
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // k_l = softmax(η)_l (K − L) + 1, with K = L · mean.
  function budgets(etas, mean) {
    const highest = Math.max(...etas);
    const parts = etas.map((eta) => Math.exp(eta - highest));
    const [total, free] = [sum(parts), etas.length * (mean - 1)];
    return parts.map((part) => (part / total) * free + 1);
  }

  // The wishes are a column of the bars: that is where they are kept.
  function draw(args, moved) {
    const at = args.layer.active;
    const eta = Array.from(args.bars.data.eta);
    if (moved === "layer" && args.wish.value !== eta[at]) {
      args.wish.value = eta[at]; // which draws
      return;
    }
    if (moved === "wish") eta[at] = args.wish.value;
    const mean = args.mean.value;
    const budget = budgets(eta, mean);
    const label = budget.map((b) => b.toFixed(1));
    args.bars.data = { ...args.bars.data, eta, budget, label };
    args.ring.data = { layer: [at + 1], budget: [budget[at]] };
    args.mark.data = { ...args.mark.data, y: [mean, mean] };
    args.heights.end = Math.max(args.height, args.room * Math.max(...budget));
    const text = tell(args, { eta, mean, at, budget, label });
    args.title.text = text.title;
    args.alt.data = { text: [text.alt] };
  }

  function tell({ count, experts }, { eta, mean, at, budget, label }) {
    const total = sum(budget).toFixed(1);
    const free = (eta.length * (mean - 1)).toFixed(1);
    const wish = eta[at].toFixed(1).replace("-", "−");
    return {
      title: `Layer ${at + 1} takes ${label[at]}; the ${count} sum to ${total}`,
      alt:
        `${eta.length} layers of ${experts} experts compete for a sum of ${total}, ` +
        `${mean.toFixed(1)} on average. Each keeps 1; the other ${free} go by the softmax of ` +
        `their wishes. Budgets from the bottom layer: ${label.join(", ")}. ` +
        `Layer ${at + 1}, with a wish of ${wish}, takes ${label[at]}.`,
    };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.softmoe_budgets = { budgets, draw };
})(globalThis);
