// Should I split? The planner of aiexplained/concepts/atom/planner.py in the browser: the same
// layouts, the same search, the same sentence; and the figure of it. Load atom.js before.
// settings: {gpu, model, gpus_per_engine, n_engines, arrival_rate_rps, prompt_tokens,
//   output_tokens, ttft_s, gap_s, pace, link_bandwidth, rows}; rows as in atom.js.
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.atom;
  const [FLOPS_SHARE, BANDWIDTH_SHARE, USED, OVERHEAD, LATENCY] = [0.5, 0.7, 0.9, 0.002, 0.001];
  const ENGINE = { block_size: 16, max_num_seqs: 512, max_num_batched_tokens: 16384 };
  const [SHORTEST, STEPS, MARGIN, SHARE, CHUNKS] = [0.8, 6, 0.05, 0.9, [128, 256, 512]];
  const READ_TOKENS = 2048;
  const whole = (value) => value.toLocaleString("en-US");
  const weights = (model) => model.n_params * model.weight_bytes;
  const kvBytes = (m) => 2 * m.n_layers * m.n_kv_heads * m.head_dim * m.kv_bytes;

  function stepCost(gpu, model, n) {
    const flops = FLOPS_SHARE * gpu.flops * n;
    const bandwidth = BANDWIDTH_SHARE * gpu.bandwidth * n;
    return {
      overhead_s: OVERHEAD,
      token_s: (2 * model.n_params) / flops,
      pair_s: (4 * (model.n_layers * model.n_heads * model.head_dim)) / flops,
      weights_s: weights(model) / bandwidth,
      kv_token_s: kvBytes(model) / bandwidth,
      sequence_s: 0,
    };
  }

  function kvBlocks(gpu, model, n) {
    const left = USED * gpu.memory * n - weights(model);
    return Math.floor(left / (ENGINE.block_size * kvBytes(model)));
  }

  function gpusNeeded(gpu, model) {
    let n = 1;
    while (weights(model) > 0.8 * gpu.memory * n) n *= 2;
    return n;
  }

  function layouts(n) {
    const layout = (name, own) => ({ name, n_colocated: 0, n_prefill: 0, n_decode: 0, chunk: 0, ...own });
    const found = [layout("colocated", { n_colocated: n })];
    for (const chunk of CHUNKS) {
      found.push(layout(`chunks of ${whole(chunk)}`, { n_colocated: n, chunk }));
    }
    for (let p = 1; p < n; p++) {
      found.push(layout(`${p} read, ${n - p} write`, { n_prefill: p, n_decode: n - p }));
    }
    return found;
  }

  function fleetOf({ chunk, n_colocated, n_prefill, n_decode }, settings) {
    const { gpu, model, gpus_per_engine: n, link_bandwidth: bandwidth } = settings;
    let rules = chunk ? { policy: "mixed", max_num_batched_tokens: chunk } : {};
    if (n_prefill) rules = { max_num_batched_tokens: READ_TOKENS };
    return {
      n_colocated, n_prefill, n_decode,
      engine: { ...ENGINE, n_blocks: kvBlocks(gpu, model, n), policy: "prefill first", ...rules },
      cost: stepCost(gpu, model, n),
      link: { bandwidth, latency_s: LATENCY, kv_bytes_per_token: kvBytes(model) },
    };
  }

  function limitRps({ prompt_tokens, output_tokens }, { cost, engine, link, ...fleet }) {
    const prompt = (prompt_tokens * (1 + SHORTEST)) / 2;
    const answer = (output_tokens * (1 + SHORTEST)) / 2;
    const context = prompt + answer / 2;
    const room = (engine.n_blocks * engine.block_size) / (prompt + answer);
    const batch = Math.min(engine.max_num_seqs, room);
    const [read, learn] = [prompt * cost.token_s, ((prompt * prompt) / 2) * cost.pair_s];
    const [compute, fetch] = [answer * cost.token_s, (answer * cost.weights_s) / batch];
    const attend =
      answer * context * Math.max(cost.pair_s, cost.kv_token_s) + answer * cost.sequence_s;
    if (fleet.n_colocated) {
      return fleet.n_colocated / (Math.max(read + compute, fetch) + learn + attend);
    }
    const travel = link.latency_s + (prompt * link.kv_bytes_per_token) / link.bandwidth;
    const writes = fleet.n_decode / Math.max(Math.max(compute, fetch) + attend, travel);
    return Math.min(fleet.n_prefill / Math.max(read + learn, travel), writes);
  }

  const fits = ({ gpu, model, gpus_per_engine: n, prompt_tokens, output_tokens }) =>
    Math.ceil((prompt_tokens + output_tokens) / ENGINE.block_size) <= kvBlocks(gpu, model, n);

  // One simulation at a time: first every layout at the asked rate, then the search for goodput.
  function* search(settings) {
    const { ttft_s, gap_s, pace, rows } = settings;
    const slo = { ttft_s, gap_s, pace };
    const serve = (fleet, rate) =>
      rule.simulate(
        rule.makeRequests(rows, { ...settings, arrival_rate_rps: rate, shortest: SHORTEST }), fleet
      );
    const found = layouts(settings.n_engines).map((layout) => ({ layout, goodput_rps: null }));
    for (const outcome of found) {
      outcome.fleet = fleetOf(outcome.layout, settings);
      const run = serve(outcome.fleet, settings.arrival_rate_rps);
      const { ttft_p50_s, ttft_p99_s, gap_p99_s, gap_worst_s } = rule.summarize(run);
      Object.assign(outcome, {
        ttft_p50_s, ttft_p99_s, gap_p99_s: gap_p99_s ?? 0, worst_gap_s: gap_worst_s ?? 0,
        attainment: rule.attainment(run.served, slo),
      });
      yield found;
    }
    const bounds = found.map((outcome) => limitRps(settings, outcome.fleet));
    const most = Math.max(...bounds);
    for (const [i, outcome] of found.entries()) {
      let [low, high] = [0, most];
      for (let step = 0; step < STEPS; step++) {
        const middle = (low + high) / 2;
        const { served } = serve(outcome.fleet, middle);
        if (rule.attainment(served, slo) >= SHARE) low = middle;
        else high = middle;
        if (step < STEPS - 1) yield found;
      }
      outcome.goodput_rps = Math.min(low, bounds[i]); // a few requests can come faster than that
      yield found;
    }
    return found;
  }

  function plan(settings) {
    const work = search(settings);
    for (;;) {
      const { value, done } = work.next();
      if (done) return value;
    }
  }

  const better = (a, b) => (b.goodput_rps > a.goodput_rps ? b : a);
  const isSplit = (outcome) => outcome.layout.n_prefill > 0;

  function verdict(outcomes) {
    const one = outcomes.filter((o) => !isSplit(o)).reduce(better);
    const two = outcomes.filter(isSplit).reduce(better);
    if (Math.max(one.goodput_rps, two.goodput_rps) === 0) return { one, two, word: "none" };
    let word = "Do not split";
    if (two.goodput_rps > (1 + MARGIN) * one.goodput_rps) word = "Split";
    else if (two.goodput_rps >= (1 - MARGIN) * one.goodput_rps) word = "Splitting changes little";
    return { one, two, word };
  }

  function advice(outcomes) {
    const { one, two, word } = verdict(outcomes);
    const limits = `${(100 * SHARE).toFixed(0)} % of the requests within the limits`;
    if (word === "none") {
      return (
        `No layout keeps ${limits} at any rate tried: splitting does not help, other limits ` +
        "or other hardware would."
      );
    }
    const best = ({ goodput_rps: rate, layout }) =>
      rate === 0 ? "no rate tried" : `${rate.toFixed(2)} requests/s (${layout.name})`;
    return `${word}: with ${limits}, two pools bear ${best(two)} and one pool bears ${best(one)}.`;
  }

  root.aiexplained.rules.atom_planner = {
    stepCost, kvBlocks, gpusNeeded, layouts, fleetOf, limitRps, fits, search, plan, verdict, advice,
  };
})(globalThis);
