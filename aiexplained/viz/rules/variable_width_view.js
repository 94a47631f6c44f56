// What the stack of layers does with the solver: fill column sources, titles and the caption.
// Every function takes the CustomJS arguments of its figure (aiexplained/viz/variable_width).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.variable_width;
  const MULTIPLE = 32;

  // "−3.2 %", with a true minus and the sign of what is shown.
  function change(ratio) {
    const text = Math.abs(100 * (ratio - 1)).toFixed(1);
    if (text === "0.0") return "±0.0 %";
    return `${ratio < 1 ? "−" : "+"}${text} %`;
  }

  function settings(args) {
    const model = args.models[args.model.active];
    return {
      ...model,
      waist: args.waist.value,
      turn: Math.min(args.turn.value, model.n_layers - 1),
      tokens: args.lengths[args.tokens.value],
    };
  }

  function costs({ d_model: d, vocab_size: vocab, n_layers: n, tokens }, widths) {
    const uniform = Array(n).fill(d);
    const ratio = (count) => count(widths) / count(uniform);
    return [
      ratio((w) => rule.countCacheBytes(w, tokens)),
      ratio((w) => rule.countFlops(w, d, vocab, tokens)),
      ratio((w) => rule.countParameters(w, d, vocab)),
    ];
  }

  function stack(args) {
    const s = settings(args);
    const solved = rule.solveWidths(s.n_layers, s.d_model, {
      waist: s.waist, turn: s.turn, vocabSize: s.vocab_size, multiple: MULTIPLE,
    });
    const { widths } = solved;
    const ratios = costs(s, widths);
    drawLayers(args, s, widths);
    args.costs.data = {
      ...args.costs.data,
      change: ratios.map((ratio) => 100 * (ratio - 1)),
      label: ratios.map(change),
    };
    args.title.text =
      `Ends ${widths[0]}, waist ${widths[s.turn - 1]}: as many weights as ` +
      `${s.n_layers} layers of ${s.d_model}`;
    args.alt.data = { text: [describe(s, solved, ratios)] };
  }

  function drawLayers(args, s, widths) {
    const half = widths.map((w) => w / s.d_model / 2);
    const n = s.n_layers;
    args.layers.data = {
      layer: widths.map((_, i) => i + 1),
      width: widths,
      left: half.map((x) => -x),
      right: half,
      bottom: widths.map((_, i) => (i + 0.08) / n),
      top: widths.map((_, i) => (i + 0.92) / n),
    };
    const at = s.turn - 1;
    args.label.data = {
      x: [half[at]],
      y: [(at + 0.5) / n],
      text: [half[at] <= 0.31 ? `layer ${at + 1}: ${widths[at]}` : ""], // else there is no room
    };
  }

  function describe(s, { widths, shrink, flare }, [cache, flops, weights]) {
    return (
      `${s.n_layers} layers against a uniform width of ${s.d_model}: ${widths[0]} at both ends, ` +
      `${widths[s.turn - 1]} at layer ${s.turn}; each layer is ${shrink.toFixed(3)} times as wide as ` +
      `the one before it up to there, then ${flare.toFixed(3)} times. Weights in use ${change(weights)} ` +
      `(rounding), operations at ${s.tokens.toLocaleString("en-US")} tokens ${change(flops)}, ` +
      `cache ${change(cache)}.`
    );
  }

  // While several controls are set at once, the figure waits for the last of them.
  const settling = new Set();

  function settle(args, change) {
    settling.add(args.preset);
    change();
    settling.delete(args.preset);
    stack(args);
  }

  const turnAt = (share, n) => Math.min(Math.max(Math.floor(share * n + 1e-9), 2), n - 1);

  // Another model: the turning layer keeps its place in the depth.
  function remodel(args) {
    const n = args.models[args.model.active].n_layers;
    const before = args.turn.end + 1;
    const chosen = args.presets[args.preset.active];
    settle(args, () => {
      const place = turnAt(chosen ? chosen.turn : args.turn.value / before, n);
      args.turn.end = n - 1;
      args.turn.value = place;
    });
  }

  function preset(args) {
    const chosen = args.presets[args.preset.active];
    if (chosen === undefined) return;
    settle(args, () => {
      args.waist.value = chosen.waist;
      args.turn.value = turnAt(chosen.turn, args.turn.end + 1);
    });
  }

  // A shape that was changed by hand is no preset. Bokeh calls this later than the controls change,
  // also where a preset has set them.
  function reshape(args) {
    if (settling.has(args.preset)) return;
    const chosen = args.presets[args.preset.active];
    const turn = chosen && turnAt(chosen.turn, args.turn.end + 1);
    if (chosen && (args.waist.value !== chosen.waist || args.turn.value !== turn)) {
      args.preset.active = null;
    }
    stack(args);
  }

  // Dragging: height chooses the turning layer, distance from the middle its width.
  function drag(args, event) {
    const n = args.turn.end + 1;
    const turn = Math.floor(event.y * n) + 1;
    const { start, end, step } = args.waist;
    const waist = Math.round((2 * Math.abs(event.x)) / step) * step;
    args.preset.active = null;
    settle(args, () => {
      args.turn.value = Math.min(Math.max(turn, 2), n - 1);
      args.waist.value = Math.min(Math.max(Number(waist.toFixed(2)), start), end);
    });
  }

  root.aiexplained.rules.variable_width_view = { stack, remodel, preset, reshape, drag };
})(globalThis);
