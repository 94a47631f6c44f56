// What the figures of SoftMoE do with the rule: fill marks, lines, bars, titles and captions.
// Every function takes the CustomJS arguments of its figure (aiexplained/viz/softmoe).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.softmoe;
  const NAMES = "ABCDEFGH";
  const HALF = 1e-9; // as in shown.py: a half is rounded up in both languages

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const clamp = (value, { start, end }) => Math.min(Math.max(value, start), end);
  const toStep = (value, { step }) => Number((Math.round(value / step) * step).toFixed(2));

  function two(value) {
    const text = (value + HALF).toFixed(2);
    return (text === "-0.00" ? "0.00" : text).replace("-", "−");
  }

  // A number that is not quite zero is not said to be zero.
  function exactTwo(value) {
    if (value === 0) return "0";
    if (Math.abs(value) >= 0.005) return two(value);
    return value > 0 ? "< 0.01" : "> −0.01";
  }

  const listed = (names) =>
    names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}` : names[0];

  // ---- Slide the curve ----

  function readCurve(args) {
    const scores = Array.from(args.experts.data.score);
    const k = args.k.value;
    const temperature = args.temperatures[args.temperature.value];
    const weights = rule.softTopK(scores, k, temperature);
    const cut = args.cut.value;
    const rank = Math.min(Math.max(Math.floor(k + 0.5), 1), scores.length);
    return {
      scores, k, temperature, weights, rank,
      threshold: rule.threshold(scores, k, temperature),
      shares: rule.shares(scores, k, temperature),
      line: rule.cutLine(weights, k, args.expansion, cut),
      kept: rule.truncate(weights, k, args.expansion, cut),
      hard: rule.hardTopK(scores, rank),
    };
  }

  function drawCurve(args) {
    const found = readCurve(args);
    drawExperts(args, found);
    args.curve.data = sampleCurve(found, args.reach);
    drawThreshold(args, found.threshold);
    args.cutSpan.location = found.line;
    args.cutMark.data = { ...args.cutMark.data, y: [found.line], text: [`cut ${two(found.line)}`] };
    args.title.text = headCurve(found);
    args.barsTitle.text = headBars(found);
    args.alt.data = { text: [describeCurve(found)] };
  }

  function drawExperts({ experts, expert, colors, gain }, { weights, kept, shares, ...found }) {
    experts.data = {
      ...experts.data,
      score: found.scores,
      weight: weights,
      share: shares,
      hard: found.hard,
      runs: kept.map((weight) => (weight ? "yes" : "no")),
      fill: kept.map((weight) => (weight ? colors.runs : colors.none)),
      line: kept.map((weight) => (weight ? colors.runs : colors.rests)),
      size: weights.map((_, i) => (i === expert.active ? 17 : 11)),
      tip: weights.map((weight, i) => weight + gain * shares[i]),
      head: shares.map((share) => Math.min(8, 40 * share)),
      letter: placeLetters(found.scores),
    };
  }

  // Letters of experts with near scores stand in rows, as in curve.py.
  function placeLetters(scores) {
    const ends = [-Infinity, -Infinity, -Infinity];
    const places = [];
    const order = Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b] || a - b);
    for (const i of order) {
      const free = ends.findIndex((end) => scores[i] - end >= 0.3);
      const row = free < 0 ? ends.indexOf(Math.min(...ends)) : free;
      ends[row] = scores[i];
      places[i] = -0.03 - 0.08 * row;
    }
    return places;
  }

  // Points over the whole axis, and as many again where the curve is steep.
  function sampleCurve({ threshold, temperature }, reach) {
    const even = Array.from({ length: 61 }, (_, i) => reach * (i / 30 - 1));
    const near = even.map((x) => threshold + (8 * temperature * x) / reach);
    const inside = near.filter((x) => Math.abs(x) < reach);
    const x = [...even, ...inside].sort((a, b) => a - b);
    return { x, y: x.map((score) => rule.laplace((score - threshold) / temperature)) };
  }

  function drawThreshold({ thresholdSpan, thresholdMark, reach }, threshold) {
    const right = threshold > 0;
    const beyond = Math.abs(threshold) > reach;
    const place = clamp(threshold, { start: -reach, end: reach });
    const name = `threshold ${two(threshold)}`;
    thresholdSpan.location = place;
    thresholdSpan.visible = !beyond;
    thresholdMark.data = {
      ...thresholdMark.data,
      x: [place],
      text: [beyond ? (right ? `${name} →` : `← ${name}`) : name],
      align: [right ? "right" : "left"],
      offset: [right ? -6 : 6],
    };
  }

  const count = (values) => values.filter((value) => value > 0).length;
  const named = (values) => listed(Array.from(NAMES).filter((_, i) => values[i] > 0));

  function headCurve({ k, weights, kept }) {
    const runs = count(kept);
    return `k = ${two(k)}: all weights sum to ${two(sum(weights))}, ${runs} of ${kept.length} ` +
      `experts run${runs === 1 ? "s" : ""}`;
  }

  function headBars({ kept, hard, rank }) {
    return `Sum of those that run: soft ${two(sum(kept))}, hard top-${rank} ${two(sum(hard))}`;
  }

  function describeCurve({ k, temperature, threshold, weights, kept, line, shares, hard, rank }) {
    const runs = count(kept);
    const most = shares.indexOf(Math.max(...shares));
    return (
      `k = ${two(k)}, temperature ${temperature}: the curve is centered on score ` +
      `${two(threshold)}, and the weights of all ${kept.length} experts sum to ` +
      `${two(sum(weights))}. ${runs} reach${runs === 1 ? "es" : ""} the cut at ${two(line)} and ` +
      `run${runs === 1 ? "s" : ""}: ${named(kept)}, with ${two(sum(kept))} in sum. If k grows, ` +
      `${NAMES[most]} gains most, ${two(shares[most])} for each unit of k. Hard top-${rank} runs ` +
      `${named(hard)}, with ${two(sum(hard))} in sum.`
    );
  }

  // The controls report back what a gesture has set: each of these may run again without harm.
  function moveExpert(args) {
    setScore(args, args.expert.active, args.score.value);
    drawCurve(args);
  }

  function pickExpert(args) {
    args.score.value = args.experts.data.score[args.expert.active];
    drawCurve(args);
  }

  function setScore({ experts }, which, value) {
    const score = Array.from(experts.data.score);
    score[which] = value;
    experts.data = { ...experts.data, score };
  }

  // The nearest expert is taken; where several are as near, the one in hand stays.
  function grabExpert(args, event) {
    const away = Array.from(args.experts.data.score, (score) => Math.abs(score - event.x));
    const least = Math.min(...away);
    if (away[args.expert.active] !== least) args.expert.active = away.indexOf(least);
  }

  function dragExpert(args, event) {
    const place = toStep(clamp(event.x, args.score), args.score);
    setScore(args, args.expert.active, place);
    args.score.value = place;
  }

  // ---- Nudge a near miss ----

  // Weights of the near miss and of the last chosen, and what they change by per unit of the near
  // miss's score, under both rules.
  function weigh({ scores, near, last, k, ...args }, away) {
    const moved = Array.from(scores);
    moved[near] = moved[last] + away;
    const temperature = args.temperatures[args.temperature.value];
    const renormalize = args.how.active === 1;
    const soft = rule.softTopK(moved, k, temperature);
    const hard = rule.hardTopK(moved, k, renormalize);
    const both = [near, last];
    return {
      hard: both.map((i) => hard[i]),
      hard_slope: both.map((i) => rule.hardGradient(moved, k, renormalize, i)[near]),
      soft: both.map((i) => soft[i]),
      soft_slope: both.map((i) => rule.gradient(moved, k, temperature, i)[near]),
    };
  }

  function drawNudge(args) {
    const away = args.away.value;
    const found = weigh(args, away);
    drawLines(args);
    args.marks.data = { ...args.marks.data, x: [away, away], ...found };
    for (const span of args.moments) span.location = away;
    args.said.data = { ...args.said.data, hard: [saySlopes(args, found.hard_slope)],
                       soft: [saySlopes(args, found.soft_slope)] };
    args.hardTitle.text = headNudge("Hard", args, found.hard[0], found.hard_slope[0]);
    args.softTitle.text = headNudge("Soft, uncut", args, found.soft[0], found.soft_slope[0]);
    args.alt.data = { text: [describeNudge(args, found)] };
  }

  // A hard choice has no value between its two sides: the lines have a gap.
  function drawLines(args) {
    const reach = args.away.end;
    const half = Array.from({ length: 120 }, (_, i) => (reach * (i + 1)) / 120);
    const left = half.map((x) => -x).reverse();
    const across = (x, name) => {
      const found = x.map((away) => (Number.isNaN(away) ? [NaN, NaN] : weigh(args, away)[name]));
      return { x, near: found.map(([near]) => near), last: found.map(([, last]) => last) };
    };
    args.hard.data = across([...left, -HALF, NaN, HALF, ...half], "hard");
    args.soft.data = across([...left, 0, ...half], "soft");
    const top = weigh(args, HALF).hard[0];
    args.jump.data = { ...args.jump.data, top: [top], middle: [top / 2] };
  }

  const saySlopes = ({ near, last }, [own, other]) =>
    `slopes: ${NAMES[near]} ${exactTwo(own)}, ${NAMES[last]} ${exactTwo(other)}`;

  function headNudge(rule, { near }, weight, slope) {
    const exact = slope === 0 ? "exactly " : "";
    return `${rule}: ${NAMES[near]} weighs ${exactTwo(weight)}, its slope is ${exact}` +
      exactTwo(slope);
  }

  function describeNudge({ near, last, k, scores, away: { value: away }, ...args }, found) {
    const far = away ? `${two(Math.abs(away))} ${away < 0 ? "below" : "above"}` : "the same as";
    const taken = away > 0 || (away === 0 && near < last);
    const place = taken ? `${far} ${NAMES[last]}, which was chosen before` :
      `${far} ${NAMES[last]}, the last chosen`;
    const gains = ([weight], [own, other]) =>
      `${NAMES[near]} weighs ${exactTwo(weight)} and gains ${exactTwo(own)} for each unit that ` +
      `its score rises, ${NAMES[last]} ${exactTwo(other)}.`;
    return (
      `${scores.length} experts, k = ${k}: the near miss ${NAMES[near]} scores ${place}. ` +
      `Hard top-${k} (${args.hows[args.how.active]}): ` +
      `${gains(found.hard, found.hard_slope)} Soft top-k at temperature ` +
      `${args.temperatures[args.temperature.value]}: ${gains(found.soft, found.soft_slope)}`
    );
  }

  function dragNudge(args, event) {
    args.away.value = toStep(clamp(event.x, args.away), args.away);
  }

  root.aiexplained.rules.softmoe_view = {
    drawCurve, moveExpert, pickExpert, grabExpert, dragExpert, drawNudge, dragNudge,
  };
})(globalThis);
