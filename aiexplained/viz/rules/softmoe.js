// Soft top-k, its cut and its gradients, and hard top-k beside it: the same as `soft_top_k`,
// `truncate` and `HardTopK` in aiexplained/concepts/softmoe. Tests run both on the same inputs.
(function (root) {
  "use strict";

  // log(e^a + e^b)
  function logAddExp(a, b) {
    const high = Math.max(a, b);
    return high === -Infinity ? high : high + Math.log1p(Math.exp(-Math.abs(a - b)));
  }

  // log(e^v_1 + … + e^v_j) for j from 0 to the number of values.
  function logSums(values) {
    const sums = [-Infinity];
    values.forEach((value, j) => sums.push(logAddExp(sums[j], value)));
    return sums;
  }

  // The score that the Laplace curve is centered on when its heights sum to k. With j scores above
  // x, in units of the temperature, they sum to j - e^x A_j / 2 + e^-x B_j / 2.
  function threshold(scores, k, temperature) {
    const high = Array.from(scores, (score) => score / temperature).sort((a, b) => b - a);
    const n = high.length;
    const logA = logSums(high.map((score) => -score));
    const logB = logSums(high.slice().reverse()).reverse();
    const total = (j) =>
      j - 0.5 * Math.exp(logA[j] + high[j - 1]) + 0.5 * Math.exp(logB[j] - high[j - 1]);
    let above = 0;
    while (above < n && total(above + 1) <= k) above += 1;
    // A z² - 2 (j - k) z - B = 0 for z = e^x, its root written so that nothing cancels.
    const logSurplus = Math.log(Math.abs(above - k));
    const root2 = 0.5 * logAddExp(2 * logSurplus, logA[above] + logB[above]);
    const logSum = logAddExp(logSurplus, root2);
    return temperature * (above >= k ? logSum - logA[above] : logB[above] - logSum);
  }

  // Distances to the threshold, in units of the temperature.
  function distances(scores, k, temperature) {
    const middle = threshold(scores, k, temperature) / temperature;
    return Array.from(scores, (score) => score / temperature - middle);
  }

  function laplace(u) {
    const tail = 0.5 * Math.exp(-Math.abs(u));
    return u <= 0 ? tail : 1 - tail;
  }

  // Weights between 0 and 1 that sum to k.
  function softTopK(scores, k, temperature) {
    return distances(scores, k, temperature).map(laplace);
  }

  function softmax(values) {
    const high = Math.max(...values);
    const powers = Array.from(values, (value) => Math.exp(value - high));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  }

  // ∂p_i/∂k of every expert i: how they share what k grows by.
  function shares(scores, k, temperature) {
    return softmax(distances(scores, k, temperature).map((u) => -Math.abs(u)));
  }

  // ∂p_i/∂r_j of one expert i, for the score of every expert j.
  function gradient(scores, k, temperature, i) {
    const density = 0.5 * Math.exp(-Math.abs(distances(scores, k, temperature)[i]));
    const share = shares(scores, k, temperature);
    return share.map((q, j) => (density / temperature) * ((i === j ? 1 : 0) - q));
  }

  // What a weight must reach: cut · k / n, lowered to the highest weight and raised to the last of
  // the ceil(expansion · k) highest. The budget may be a sum of rounded numbers.
  function cutLine(weights, k, expansion, cut) {
    const n = weights.length;
    const ordered = Array.from(weights).sort((a, b) => b - a);
    const most = Math.min(Math.max(Math.ceil(expansion * k - 1e-5), 1), n);
    return Math.min(Math.max((cut * k) / n, ordered[most - 1]), ordered[0]);
  }

  // The weights that reach the line, and zeros.
  function truncate(weights, k, expansion, cut) {
    const line = cutLine(weights, k, expansion, cut);
    return Array.from(weights, (weight) => (weight >= line ? weight : 0));
  }

  // Positions of the k highest scores; of equal ones the first.
  function highest(scores, k) {
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
    return new Set(order.slice(0, k));
  }

  // Softmax, then the k highest; `renormalize` divides by the sum of those.
  function hardTopK(scores, k, renormalize = false) {
    const chosen = highest(scores, k);
    const weights = softmax(scores).map((weight, i) => (chosen.has(i) ? weight : 0));
    const total = renormalize ? weights.reduce((sum, weight) => sum + weight, 0) : 1;
    return weights.map((weight) => weight / total);
  }

  // ∂w_i/∂r_j of one expert i under hardTopK, away from ties.
  function hardGradient(scores, k, renormalize, i) {
    const own = hardTopK(scores, k, renormalize);
    const felt = renormalize ? own : softmax(scores);
    return felt.map((weight, j) => (own[i] ? own[i] * ((i === j ? 1 : 0) - weight) : 0));
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.softmoe = {
    threshold, laplace, softTopK, shares, gradient, cutLine, truncate, hardTopK, hardGradient,
  };
})(globalThis);
