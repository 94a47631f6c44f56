// Rounding of weights to three values, and a state whose inputs are off: the same as `ternarize` in
// aiexplained/nn/ternary.py and as `perturb` in aiexplained/concepts/ternary_mamba. Tests run both
// on the same inputs.
(function (root) {
  "use strict";

  // Rows of `columns` weights to codes -1, 0, 1 and one scale for each group of a row. The last
  // group of a row may be shorter. At exactly half a scale a weight becomes 0, as rounding to even
  // has it.
  function ternarize(weights, columns, groupSize) {
    const codes = new Int8Array(weights.length);
    const scales = [];
    for (let row = 0; row < weights.length; row += columns) {
      for (let from = row; from < row + columns; from += groupSize) {
        const to = Math.min(from + groupSize, row + columns);
        let total = 0;
        for (let i = from; i < to; i += 1) total += Math.abs(weights[i]);
        const scale = total / (to - from);
        scales.push(scale);
        if (scale === 0) continue;
        for (let i = from; i < to; i += 1) {
          const ratio = weights[i] / scale;
          codes[i] = ratio > 0.5 ? 1 : ratio < -0.5 ? -1 : 0;
        }
      }
    }
    return { codes, scales: Float64Array.from(scales) };
  }

  // States of one channel, in rows of N: h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, from zero.
  function runHead({ decay, dt, B, x }) {
    const n = B.length / dt.length;
    const states = new Float64Array(B.length);
    for (let t = 0, i = 0; t < dt.length; t += 1) {
      const keep = Math.exp(dt[t] * decay);
      const write = dt[t] * x[t];
      for (const end = i + n; i < end; i += 1) {
        states[i] = (t ? keep * states[i - n] : 0) + write * B[i];
      }
    }
    return states;
  }

  // One input of the head, times 1 + size n: n is 1 at one token ("once") or at each ("same"), or
  // given noise ("random").
  function perturbHead(head, noise, { what, how, size, at }) {
    const width = head[what].length / head.dt.length;
    const random = what === "B" ? noise.entry : noise.token;
    const off = (i) => {
      if (how === "random") return random[i];
      return how === "same" || Math.floor(i / width) === at ? 1 : 0;
    };
    return { ...head, [what]: head[what].map((value, i) => value * (1 + size * off(i))) };
  }

  function norms(rows, n) {
    const squares = new Float64Array(rows.length / n);
    rows.forEach((value, i) => {
      squares[Math.floor(i / n)] += value * value;
    });
    return squares.map(Math.sqrt);
  }

  // Norms of the exact and of the perturbed state after each token, and the norm of their
  // difference as a share of the exact state's root mean square over all tokens.
  function stateError(head, noise, options) {
    const n = head.B.length / head.dt.length;
    const exact = runHead(head);
    const perturbed = runHead(perturbHead(head, noise, options));
    const norm = norms(exact, n);
    const usual = Math.sqrt(norm.reduce((sum, v) => sum + v * v, 0) / norm.length);
    const away = norms(perturbed.map((value, i) => value - exact[i]), n);
    return { norm, perturbed: norms(perturbed, n), error: away.map((value) => value / usual) };
  }

  // The largest error, the last one, and the tokens until half of that at token `at` is gone: null
  // if that does not happen.
  function summarize(error, at) {
    const gone = error.findIndex((value, t) => t > at && value <= error[at] / 2);
    const half = gone < 0 || error[at] === 0 ? null : gone - at;
    return { peak: Math.max(...error), end: error[error.length - 1], half };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.ternary_mamba = { ternarize, runHead, perturbHead, stateError, summarize };
})(globalThis);
