// The width solver in the browser, with its accounts: the same as in
// aiexplained/concepts/variable_width/schedule.py. A test runs both on the same inputs.
(function (root) {
  "use strict";
  const WEIGHTS_PER_SQUARE = 16;

  function factors(end, waistWidth, turn, nLayers) {
    const ratio = waistWidth / end;
    return [ratio ** (1 / (turn - 1)), ratio ** (-1 / (nLayers - turn))];
  }

  function geometric(end, [shrink, flare], turn, nLayers) {
    const widths = [end];
    for (let layer = 1; layer < nLayers; layer += 1) {
      widths.push(widths[layer - 1] * (layer < turn ? shrink : flare));
    }
    return widths;
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  function countIdle(widths, dModel) {
    const [first, last] = [widths[0], widths[widths.length - 1]];
    return 3 * Math.max(0, first - dModel) * first + 4 * Math.max(0, last - dModel) * last;
  }

  function countParameters(widths, dModel, vocabSize) {
    const last = widths[widths.length - 1];
    const ends = vocabSize * (Math.min(widths[0], dModel) + Math.min(last, dModel));
    return ends + WEIGHTS_PER_SQUARE * sum(widths.map((w) => w * w)) - countIdle(widths, dModel);
  }

  function countFlops(widths, dModel, vocabSize, seqLen) {
    const embedding = vocabSize * Math.min(widths[0], dModel);
    const weights = countParameters(widths, dModel, vocabSize) - embedding;
    return seqLen * (2 * weights + 4 * seqLen * sum(widths));
  }

  const countCacheBytes = (widths, nTokens, bytes = 2) => 2 * nTokens * bytes * sum(widths);

  // Returns null where no end width has as few weights as the uniform model.
  function solveWidths(nLayers, dModel, { waist, turn, vocabSize, multiple }) {
    const target = countParameters(Array(nLayers).fill(dModel), dModel, vocabSize);
    const excess = (end) => {
      const widths = geometric(end, factors(end, waist * dModel, turn, nLayers), turn, nLayers);
      return countParameters(widths, dModel, vocabSize) - target;
    };
    let low = 1e-6 * dModel;
    let high = dModel;
    while (excess(high) < 0) high *= 2;
    if (excess(low) > 0) return null;
    for (let step = 0; step < 200; step += 1) {
      const middle = (low + high) / 2;
      if (excess(middle) < 0) low = middle;
      else high = middle;
    }
    const [shrink, flare] = factors(high, waist * dModel, turn, nLayers);
    const exact = geometric(Math.floor(high + 0.5), [shrink, flare], turn, nLayers);
    const round = (w) => Math.max(1, Math.floor(w / multiple + 0.5)) * multiple;
    return { widths: exact.map(round), end: high, shrink, flare, turn, waist };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.variable_width = { solveWidths, countParameters, countFlops, countCacheBytes };
})(globalThis);
