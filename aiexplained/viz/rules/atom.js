// ATOM's rules in the browser: engines, their schedulers and links in simulated time, as in
// aiexplained/serving (scheduler.py, simulator.py, step_cost.py, requests.py, latency.py). The same
// events in the same order, the same arithmetic: a test compares every number to the last bit.
// Left out: prefix caching, failures, the delay gate, routing other than to the fewest tokens.
// Load atom_scheduler.js before: figures name rules=("atom_scheduler", "atom", ...).
//
// makeRequests(rows, {arrival_rate_rps, prompt_tokens, output_tokens, shortest = 0.8}) -> requests
//   rows: [n][3], Python's serving.unit_draws(default_rng(seed).random((n, 3))): the time since the
//   last arrival at a rate of 1 (browsers differ in the logarithm's last bit), then the draws of
//   both lengths. `rowsOf(flat)` cuts a flat array into rows.
// request: {id, prompt_tokens, max_new_tokens, arrival_s}, in order of arrival.
// fleet: dataclasses.asdict of Python's Fleet: {n_colocated, n_prefill, n_decode,
//   engine: {n_blocks, block_size, max_num_seqs, max_num_batched_tokens, policy},
//   cost: {overhead_s, token_s, pair_s, weights_s, kv_token_s, sequence_s},
//   link: {bandwidth, latency_s, kv_bytes_per_token}}.
// simulate(requests, fleet, concurrency = null) -> run:
//   {served: [{request, start_s, token_times_s: [], engines: [], readings: [], preemptions}],
//    spans: [[engine, start_s, end_s, prefill_tokens, batch]], by start,
//    transfers: [[request, source, target, start_s, end_s, n_blocks, skipped_blocks]],
//    most_in_engine: [], makespan_s}; readings: [[engine, start_s, end_s, tokens]] of its prompt.
// slo: {ttft_s, gap_s, pace}, pace "mean", "p95" or "worst".
// ttft(served), gaps(served), tpot(served); isMet(served, slo); attainment(run.served, slo);
// sortedGaps(run.served) -> Float64Array; percentile(values, share);
// goodput(serve, slo, {share, low, high, steps}), serve: rate -> run.
// summarize(run) -> {ttft_p50_s, ttft_p99_s, gap_p50_s, gap_p99_s, gap_worst_s, tpot_mean_s,
//   makespan_s, n_gaps}; the gaps are null where no answer has two tokens.
(function (root) {
  "use strict";
  const { Scheduler, makeSequence, lengthOf } = root.aiexplained.rules.atom_scheduler;

  // Halves go to the even neighbor, as in Python.
  function round(value) {
    const low = Math.floor(value);
    const rest = value - low;
    if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
    return low % 2 === 0 ? low : low + 1;
  }

  function rowsOf(flat) {
    const rows = [];
    for (let i = 0; i < flat.length; i += 3) rows.push([flat[i], flat[i + 1], flat[i + 2]]);
    return rows;
  }

  function makeRequests(rows, options) {
    const { arrival_rate_rps, prompt_tokens, output_tokens, shortest = 0.8 } = options;
    const length = (longest, draw) =>
      Math.max(round(longest * (shortest + (1 - shortest) * draw)), 1);
    let wait = 0;
    return rows.map((row, id) => {
      wait += row[0];
      return {
        id,
        prompt_tokens: length(prompt_tokens, row[1]),
        max_new_tokens: length(output_tokens, row[2]),
        arrival_s: wait / arrival_rate_rps,
      };
    });
  }

  // What comes first in time, and of what comes at once, what was put in first.
  class Events {
    constructor() {
      this.heap = [];
      this.order = 0;
    }

    push(time, action) {
      const { heap } = this;
      const event = { time, order: this.order++, action };
      let at = heap.length;
      while (at > 0) {
        const up = (at - 1) >> 1;
        if (!isBefore(event, heap[up])) break;
        heap[at] = heap[up];
        at = up;
      }
      heap[at] = event;
    }

    pop() {
      const { heap } = this;
      const first = heap[0];
      const event = heap.pop();
      const n = heap.length;
      for (let at = 0; n > 0; ) {
        let down = 2 * at + 1;
        if (down + 1 < n && isBefore(heap[down + 1], heap[down])) down += 1;
        if (down >= n || !isBefore(heap[down], event)) {
          heap[at] = event;
          break;
        }
        heap[at] = heap[down];
        at = down;
      }
      return first;
    }
  }

  function isBefore(a, b) {
    return a.time < b.time || (a.time === b.time && a.order < b.order);
  }

  function stepSeconds(cost, plan) {
    let [tokens, pairs, before, contexts] = [0, 0, 0, 0];
    for (const { start, count } of plan.prefill) {
      tokens += count;
      pairs += count * start + (count * (count + 1)) / 2;
      before += start;
    }
    for (const sequence of plan.decode) contexts += lengthOf(sequence);
    const writing = plan.decode.length;
    const products = Math.max((tokens + writing) * cost.token_s, cost.weights_s);
    const reading = Math.max(pairs * cost.pair_s, before * cost.kv_token_s);
    const answers = Math.max(contexts * cost.pair_s, contexts * cost.kv_token_s);
    return cost.overhead_s + writing * cost.sequence_s + products + reading + answers;
  }

  function linkSeconds(link, nTokens) {
    return link.latency_s + (nTokens * link.kv_bytes_per_token) / link.bandwidth;
  }

  function simulate(requests, fleet, concurrency = null) {
    const nEngines = fleet.n_colocated + fleet.n_prefill + fleet.n_decode;
    const engines = Array.from({ length: nEngines }, () => ({
      scheduler: new Scheduler(fleet.engine), plan: null, linkFree: 0, most: 0, meant: new Map(),
    }));
    const twoPools = fleet.n_prefill > 0;
    const served = new Map();
    for (const request of requests) {
      served.set(request.id, {
        request, start_s: 0, token_times_s: [], engines: [], readings: [], preemptions: 0,
      });
    }
    const [events, held, spans, transfers] = [new Events(), new Set(), [], []];
    let queue = [];
    let now = 0;

    const leastLoaded = (from, to) => {
      let [best, fewest] = [from, Infinity];
      for (let i = from; i < to; i++) {
        let load = engines[i].scheduler.loadTokens();
        for (const tokens of engines[i].meant.values()) load += tokens;
        if (load < fewest) [best, fewest] = [i, load];
      }
      return best;
    };

    function start(request, startTime) {
      const own = served.get(request.id);
      own.start_s = startTime;
      own.engines = twoPools
        ? [leastLoaded(0, fleet.n_prefill), leastLoaded(fleet.n_prefill, nEngines)]
        : [leastLoaded(0, nEngines)];
      const maxNew = twoPools ? 1 : request.max_new_tokens;
      const sequence = makeSequence(request.id, request.prompt_tokens, maxNew, false);
      if (twoPools) engines[own.engines[1]].meant.set(request.id, request.prompt_tokens);
      engines[own.engines[0]].scheduler.add(sequence);
      wake(own.engines[0]);
    }

    function nextInQueue() {
      if (!queue.length) return;
      const [request, time] = [queue.shift(), now];
      events.push(time, () => start(request, time));
    }

    function wake(index) {
      const engine = engines[index];
      if (engine.plan !== null) return;
      const { scheduler } = engine;
      const plan = scheduler.schedule();
      engine.most = Math.max(engine.most, scheduler.running.length + scheduler.parked.size);
      for (const sequence of plan.fetch) send(sequence, index);
      if (!plan.prefill.length && !plan.decode.length) return;
      const end = now + stepSeconds(fleet.cost, plan);
      engine.plan = plan;
      let read = 0;
      for (const { sequence, count } of plan.prefill) {
        read += count;
        served.get(sequence.id).readings.push([index, now, end, count]);
      }
      spans.push([index, now, end, read, plan.decode.length]);
      events.push(end, () => stepEnds(index));
    }

    function stepEnds(index) {
      const { plan, scheduler } = engines[index];
      engines[index].plan = null;
      const readsOnly = index < fleet.n_prefill;
      const { writers, ended } = scheduler.finishStep(plan, readsOnly);
      if (!readsOnly) for (const sequence of writers) emit(sequence.id);
      for (const sequence of ended) {
        if (readsOnly) {
          handOver(sequence);
        } else {
          served.get(sequence.id).preemptions = sequence.preemptions;
          nextInQueue();
        }
      }
      wake(index);
    }

    function emit(id) {
      const times = served.get(id).token_times_s;
      if (held.delete(id)) times.push(now);
      times.push(now);
    }

    // The prompt is read: the router passes the request and its first token on.
    function handOver(sequence) {
      const { request, engines: pair } = served.get(sequence.id);
      engines[pair[1]].meant.delete(sequence.id);
      if (request.max_new_tokens === 1) {
        engines[pair[0]].scheduler.release(sequence.id);
        emit(sequence.id);
        nextInQueue();
        return;
      }
      const waiting = makeSequence(sequence.id, sequence.prompt, request.max_new_tokens, true);
      engines[pair[1]].scheduler.add(waiting);
      wake(pair[1]);
    }

    function send(sequence, target) {
      const source = served.get(sequence.id).engines[0];
      const [sender, receiver] = [engines[source], engines[target]];
      const begin = Math.max(now, sender.linkFree, receiver.linkFree);
      const end = begin + linkSeconds(fleet.link, sequence.blocks * fleet.engine.block_size);
      sender.linkFree = receiver.linkFree = end;
      transfers.push([sequence.id, source, target, begin, end, sequence.blocks, 0]);
      events.push(end, () => arrives(sequence.id, source, target));
    }

    function arrives(id, source, target) {
      engines[source].scheduler.release(id);
      held.add(id);
      engines[target].scheduler.arrive(id);
      wake(source);
      wake(target);
    }

    if (concurrency === null) {
      for (const r of requests) events.push(r.arrival_s, () => start(r, r.arrival_s));
    } else {
      queue = requests.slice(concurrency);
      for (const r of requests.slice(0, concurrency)) events.push(0, () => start(r, 0));
    }
    while (events.heap.length) {
      const event = events.pop();
      now = event.time;
      event.action();
    }
    spans.sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    transfers.sort((a, b) => a[3] - b[3]);
    const all = [...served.values()];
    return {
      served: all, spans, transfers, most_in_engine: engines.map((engine) => engine.most),
      makespan_s: all.reduce((last, own) => Math.max(last, own.token_times_s.at(-1)), 0),
    };
  }

  const ttft = (served) => served.token_times_s[0] - served.start_s;
  const gaps = (served) => served.token_times_s.slice(1).map((t, i) => t - served.token_times_s[i]);

  function tpot({ token_times_s: times }) {
    return (times.at(-1) - times[0]) / Math.max(times.length - 1, 1);
  }

  // The smallest value that at least this share of the values do not exceed.
  const percentile = (values, share) => rank(Float64Array.from(values).sort(), share);

  function rank(ordered, share) {
    const n = ordered.length;
    let i = Math.max(Math.ceil(share * n) - 1, 1); // one too many for 0.07 * 100, a little above 7
    while (i / n < share) i += 1;
    return ordered[i - 1];
  }


  function isMet(served, slo) {
    if (ttft(served) > slo.ttft_s) return false;
    const own = gaps(served);
    if (!own.length) return true;
    if (slo.pace === "mean") return tpot(served) <= slo.gap_s;
    return percentile(own, slo.pace === "p95" ? 0.95 : 1) <= slo.gap_s;
  }

  function attainment(served, slo) {
    return served.filter((own) => isMet(own, slo)).length / served.length;
  }

  function goodput(serve, slo, { share = 0.9, low = 0, high = 64, steps = 8 } = {}) {
    for (let step = 0; step < steps; step++) {
      const middle = (low + high) / 2;
      if (attainment(serve(middle).served, slo) >= share) low = middle;
      else high = middle;
    }
    return low;
  }

  function sortedGaps(served) {
    const count = (own) => own.token_times_s.length - 1;
    const all = new Float64Array(served.reduce((sum, own) => sum + count(own), 0));
    let at = 0;
    for (const { token_times_s: times } of served) {
      for (let i = 1; i < times.length; i++) all[at++] = times[i] - times[i - 1];
    }
    return all.sort();
  }

  function summarize(run) {
    const waits = Float64Array.from(run.served, ttft).sort();
    const all = sortedGaps(run.served);
    const gap = (share) => (all.length ? rank(all, share) : null);
    return {
      ttft_p50_s: rank(waits, 0.5), ttft_p99_s: rank(waits, 0.99),
      gap_p50_s: gap(0.5), gap_p99_s: gap(0.99), gap_worst_s: gap(1),
      tpot_mean_s: run.served.reduce((sum, own) => sum + tpot(own), 0) / run.served.length,
      makespan_s: run.makespan_s, n_gaps: all.length,
    };
  }

  root.aiexplained.rules.atom = {
    rowsOf, makeRequests, stepSeconds, linkSeconds, simulate, ttft, gaps, tpot, percentile, isMet,
    attainment, goodput, sortedGaps, summarize,
  };
})(globalThis);
