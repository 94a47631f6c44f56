// What the figure of learned budgets does when a run or a step is chosen: fill bars, marks, lines
// and texts. The function takes the CustomJS arguments of its figure
// (aiexplained/viz/softmoe/journey.py).
(function (root) {
  "use strict";
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // Budgets lie by run, then step, then layer.
  function budgetsAt({ budgets, labels, at }, run, step) {
    const nLayers = budgets.length / (labels.length * at.length);
    const from = (run * at.length + step) * nLayers;
    return Array.from(budgets.slice(from, from + nLayers));
  }

  function shareAt(args, run, step) {
    const budget = budgetsAt(args, run, step);
    return (100 * sum(budget.slice(-args.nLast))) / sum(budget);
  }

  function draw(args) {
    const [run, step] = [args.pick.active, args.slider.value];
    const budget = budgetsAt(args, run, step);
    const share = args.labels.map((_, i) => shareAt(args, i, step));
    args.bars.data = { ...args.bars.data, budget };
    args.marks.data = marks(args, run, step);
    args.now.data = { x: [args.at[step]], y: [share[run]] };
    args.chosen.data = { x: args.at, y: args.at.map((_, i) => shareAt(args, run, i)) };
    const text = tell(args, { run, step, budget, share });
    args.title.text = text.title;
    args.alt.data = { text: [text.alt] };
  }

  function marks(args, run, step) {
    const others = args.labels.map((_, i) => i).filter((i) => i !== run);
    const [x, y] = [[], []];
    others.forEach((other, i) => {
      const place = args.apart * ((i + 0.5) / others.length - 0.5);
      budgetsAt(args, other, step).forEach((budget, layer) => {
        x.push(place + layer + 1);
        y.push(budget);
      });
    });
    return { x, y };
  }

  function tell({ labels, when, who, hold, other }, { run, step, budget, share }) {
    const then = when[step];
    const others = labels
      .map((label, i) => `${label} ${share[i].toFixed(1)} %`)
      .filter((_, i) => i !== run);
    return {
      title: `${then} ${who} ${hold} ${share[run].toFixed(0)} %`,
      alt:
        `${labels[run]}: ${then[0].toLowerCase()}${then.slice(1)} ${who} ${hold} ` +
        `${share[run].toFixed(1)} % of the budget (${other}). Budgets from the bottom layer: ` +
        `${budget.map((b) => b.toFixed(2)).join(", ")}. In the other runs: ${others.join("; ")}.`,
    };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.softmoe_journey = { draw };
})(globalThis);
