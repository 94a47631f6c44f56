// What the lanes do with ATOM's rules: serve the reader's traffic, fill column sources, titles and
// the text. `lanes` takes the CustomJS arguments of its figure (aiexplained/viz/atom/lanes.py), and
// makes of a run what aiexplained/viz/atom/lanes_state.py makes of it.
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.atom;
  const SYSTEMS = ["Colocated", "Chunked prefill", "Two pools"];
  const [ENGINES, WINDOW, BEFORE, AFTER, HALF] = [4, 12, 6, 4, 0.4];
  const DRAWN = ["reading", "writing", "trips", "outline", "trip", "wait", "tokens", "marks"];
  const lane = (engine) => ENGINES - engine;
  const seconds = (value) => `${value.toFixed(2)} s`;
  const milliseconds = (value) => (1000 * value).toFixed(1000 * value < 100 ? 1 : 0);
  const grouped = (n) => n.toLocaleString("en");

  function chosen({ controls, values }) {
    const state = { system: SYSTEMS[controls.system.active] };
    for (const [name, slider] of Object.entries(controls)) {
      if (name === "system") continue;
      state[name] = values[name] ? values[name][slider.value] : slider.value;
    }
    return state;
  }

  function fleetOf(shown, { cost, link, engine }) {
    const chunked = shown.system === "Chunked prefill";
    const own = chunked ? { policy: "mixed", max_num_batched_tokens: shown.chunk } : {};
    const nRead = shown.system === "Two pools" ? shown.n_read : 0;
    return {
      n_colocated: nRead ? 0 : ENGINES, n_prefill: nRead, n_decode: nRead ? ENGINES - nRead : 0,
      engine: { ...engine, ...own }, cost, link: { ...link, bandwidth: 1e9 * shown.bandwidth },
    };
  }

  function serve(args, shown) {
    const requests = rule.makeRequests(rule.rowsOf(args.rows), {
      arrival_rate_rps: shown.rate, prompt_tokens: shown.prompt, output_tokens: shown.answer,
    });
    const run = rule.simulate(requests, fleetOf(shown, args));
    const waits = run.served.map(rule.ttft);
    const gaps = rule.sortedGaps(run.served);
    return {
      run, count: counts(gaps, args.edges),
      waits: [0.5, 0.99].map((share) => rule.percentile(waits, share)),
      gaps: [0.5, 0.99, 1].map((share) => gaps[Math.max(Math.ceil(share * gaps.length), 1) - 1]),
      reading: merged(run.spans, false),
      writing: merged(run.spans.map((span) => [span[0], span[1], span[2], span[4]]), true),
      most: run.spans.reduce((most, span) => Math.max(most, span[4]), 0),
    };
  }

  // How many of the ordered gaps lie before the first edge, between edges, after the last.
  function counts(ordered, edges) {
    const count = new Array(edges.length + 1).fill(0);
    let bin = 0;
    for (const gap of ordered) {
      while (bin < edges.length && edges[bin] <= gap) bin += 1;
      count[bin] += 1;
    }
    return count;
  }

  // Steps [engine, start, end, size] that follow one another as one box: of equal size, or summed.
  function merged(steps, ofEqualSize) {
    const [all, last] = [[], []];
    for (const step of steps) {
      const [engine, start, end, size] = step;
      const box = last[engine];
      if (!size) continue;
      if (box && box[2] === start && (box[3] === size || !ofEqualSize)) {
        box[2] = end;
        if (!ofEqualSize) box[3] += size;
      } else {
        all.push((last[engine] = [engine, start, end, size]));
      }
    }
    return all;
  }

  const always = [-Infinity, Infinity];

  function boxes(all, [from, to], name, height) {
    const seen = all.filter((box) => box[2] > from && box[1] < to);
    return {
      engine: seen.map((box) => box[0] + 1),
      left: seen.map((box) => box[1]),
      right: seen.map((box) => box[2]),
      bottom: seen.map((box) => lane(box[0]) - HALF),
      top: seen.map((box) => lane(box[0]) - HALF + height(box[3])),
      [name]: seen.map((box) => box[3]),
    };
  }

  function trips(transfers) {
    return {
      start: transfers.map((transfer) => transfer[3]),
      end: transfers.map((transfer) => transfer[4]),
      source: transfers.map((transfer) => lane(transfer[1])),
      target: transfers.map((transfer) => lane(transfer[2])),
    };
  }

  function laneNames({ system, n_read: nRead, request }) {
    const names = [];
    for (let i = 0; i < ENGINES; i++) {
      const role = i < nRead ? "reads" : "writes";
      names.push(system === "Two pools" ? `${i + 1} ${role}` : `engine ${i + 1}`);
    }
    return [...names, `request ${request}`];
  }

  function stateOf(result, shown) {
    const { run, most } = result;
    const followed = run.served[shown.request - 1];
    const begin = Math.max(0, followed.start_s - BEFORE);
    const ends = [begin, Math.max(begin + WINDOW, followed.token_times_s[0] + AFTER)];
    const gaps = result.gaps.map((gap) => [1000 * gap]);
    return {
      window: ends, names: laneNames(shown), count: result.count,
      reading: boxes(result.reading, ends, "tokens", () => 2 * HALF),
      writing: boxes(result.writing, ends, "batch", (batch) => (2 * HALF * batch) / most),
      trips: trips(run.transfers.filter((t) => t[4] > ends[0] && t[3] < ends[1])),
      outline: boxes(merged(followed.readings, false), always, "tokens", () => 2 * HALF),
      trip: trips(run.transfers.filter((t) => t[0] === shown.request - 1)),
      wait: { arrival: [followed.start_s], first: [followed.token_times_s[0]] },
      tokens: { time: followed.token_times_s },
      marks: { median: gaps[0], p99: gaps[1], worst: gaps[2] },
      ...words(result, shown, followed),
    };
  }

  function words(result, shown, followed) {
    const { system, rate, prompt, answer, n_read, bandwidth, chunk, request } = shown;
    const [p50, p99] = result.waits.map(seconds);
    const [median, slow, worst] = result.gaps.map(milliseconds);
    const how = {
      "Colocated": `${ENGINES} engines that read and write`,
      "Chunked prefill": `${ENGINES} engines, at most ${grouped(chunk)} tokens a step`,
      "Two pools":
        `${n_read} of ${ENGINES} engines read, the link moves ${bandwidth} GB/s, ` +
        "the first two tokens come together",
    }[system];
    const longest = Math.max(...rule.gaps(followed));
    return {
      title: `${system}: TTFT median ${p50}, p99 ${p99}`,
      gap_title: `Gaps: median ${median}, p99 ${slow}, worst ${worst} ms`,
      alt:
        `${system} (${how}), ${rate} requests a second, prompts of up to ${grouped(prompt)} and ` +
        `answers of up to ${grouped(answer)} tokens: the first token comes after ${p50} at the ` +
        `median, ${p99} at p99. The gap between tokens is ${median} ms at the median, ${slow} ms at ` +
        `p99, ${worst} ms at worst. Request ${request} waits ${seconds(rule.ttft(followed))} for ` +
        `its first token, and its longest gap is ${milliseconds(longest)} ms.`,
    };
  }

  const runs = new WeakMap(); // figure's source -> its last run, and the traffic that it served

  function lanes(args) {
    const shown = chosen(args);
    const traffic = JSON.stringify({ ...shown, request: 0 });
    if (runs.get(args.reading)?.traffic !== traffic) {
      runs.set(args.reading, { traffic, result: serve(args, shown) });
    }
    const state = stateOf(runs.get(args.reading).result, shown);
    for (const name of DRAWN) args[name].data = state[name];
    const top = state.count.map((count) => Math.max(count, args.floor));
    args.bins.data = { ...args.bins.data, count: state.count, top };
    args.range.setv({ start: state.window[0], end: state.window[1] });
    args.axis.major_label_overrides = new Map(state.names.map((name, i) => [lane(i), name]));
    args.title.text = state.title;
    args.gapTitle.text = state.gap_title;
    args.controls.n_read.visible = args.controls.bandwidth.visible = shown.system === SYSTEMS[2];
    args.controls.chunk.visible = shown.system === SYSTEMS[1];
    args.alt.data = { text: [state.alt] };
  }

  root.aiexplained.rules.atom_view = { chosen, serve, stateOf, lanes };
})(globalThis);
