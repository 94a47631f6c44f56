// What the figure of zeros does when a run or a step is chosen: fill its patch, marks and texts.
// The function takes the CustomJS arguments of its figure (aiexplained/viz/ternary_mamba/drift.py).
(function (root) {
  "use strict";

  // Codes lie by weight, then run, then step: what seldom changes is then short once packed.
  function codesAt({ codes, labels, steps }, run, at) {
    const states = labels.length * steps.length;
    const found = [];
    for (let i = run * steps.length + at; i < codes.length; i += states) found.push(codes[i]);
    return found;
  }

  function draw(args) {
    const [run, at] = [args.pick.active, args.slider.value];
    const nSteps = args.steps.length;
    const share = (i, kind, step) => args.shares[(3 * i + kind) * nSteps + step];
    const code = codesAt(args, run, at);
    args.cells.data = { ...args.cells.data, code };
    args.now.data = { x: [args.at[at]], y: [share(run, 1, at)] };
    args.lines.forEach((line, i) => {
      line.line_width = i === run ? args.thick : args.thin;
    });
    const text = tell(args, { run, at, share, code });
    args.title.text = text.title;
    args.alt.data = { text: [text.alt] };
  }

  function tell({ labels, steps, when, shape, patch }, { run, at, share, code }) {
    const [low, mean, high, start] = [
      share(run, 0, at), share(run, 1, at), share(run, 2, at), share(run, 1, 0),
    ];
    const count = (value) => code.filter((c) => c === value).length;
    const others = labels
      .map((label, i) => `${label} ${share(i, 1, at).toFixed(1)} %`)
      .filter((_, i) => i !== run);
    return {
      title: `${labels[run]}: ${mean.toFixed(0)} % of the weights are zero ${when[at]}`,
      alt:
        `${labels[run]}: ${mean.toFixed(1)} % of the weights are zero ${when[at]} ` +
        `(${low.toFixed(1)} to ${high.toFixed(1)} % over seeds), ${start.toFixed(1)} % at step ` +
        `${steps[0]}. At the same step: ${others.join("; ")}. Of the ${shape[0]} x ${shape[1]} ` +
        `weights of ${patch}, ${count(0)} are zero, ${count(1)} are +1 and ${count(-1)} are −1.`,
    };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.ternary_mamba_drift = { draw };
})(globalThis);
