// The planner's figure: reads the controls, lets the rule work in small pieces, draws what is known.
// Every function takes the CustomJS arguments of the figure (aiexplained/viz/atom/planner.py).
(function (root) {
  "use strict";
  const rule = root.aiexplained.rules.atom_planner;
  const { rowsOf } = root.aiexplained.rules.atom;
  const PIECE_MS = 12;
  const whole = (value) => value.toLocaleString("en-US");
  const percent = (share) => `${Math.round(100 * share)} %`;

  function read(args) {
    const settings = {
      gpu: args.gpus[args.gpu.value], model: args.models[args.model.value],
      n_engines: args.n_engines.value, pace: args.paces[args.pace.active],
      rows: rowsOf(args.draws.data.rows),
    };
    for (const [name, values] of Object.entries(args.values)) settings[name] = values[args[name].value];
    settings.gpus_per_engine = rule.gpusNeeded(settings.gpu, settings.model);
    return settings;
  }

  const jobs = new WeakMap(); // figure's source -> the number of its last job

  function change(args) {
    const job = (jobs.get(args.bars) ?? 0) + 1;
    jobs.set(args.bars, job);
    const settings = read(args);
    if (!rule.fits(settings)) {
      refuse(args, settings);
      return;
    }
    args.title.text = "Searching …";
    const work = rule.search(settings);
    const piece = () => {
      if (jobs.get(args.bars) !== job) return;
      const until = performance.now() + PIECE_MS;
      let next = work.next();
      while (!next.done && performance.now() < until) next = work.next();
      draw(args, next.value);
      if (next.done) tell(args, settings, next.value);
      else setTimeout(piece, 0);
    };
    setTimeout(piece, 50);
  }

  function refuse(args, settings) {
    draw(args, rule.layouts(settings.n_engines).map((layout) => ({ layout })));
    args.title.text = "A prompt with its answer does not fit";
    args.alt.data = {
      text: [`A prompt with its answer does not fit beside the weights. ${setup(settings)}`],
    };
  }

  function draw(args, outcomes) {
    const known = outcomes.filter((o) => o.goodput_rps != null);
    const most = Math.max(...known.map((o) => o.goodput_rps));
    const best = known.length === outcomes.length && known.find((o) => o.goodput_rps === most);
    const column = (get) => outcomes.map((o) => get(o) ?? NaN);
    args.bars.data = {
      layout: outcomes.map((o) => o.layout.name),
      within: column((o) => 100 * o.attainment),
      goodput: column((o) => o.goodput_rps),
      ttft: column((o) => o.ttft_p99_s),
      gap: column((o) => 1000 * o.gap_p99_s),
      worst: column((o) => 1000 * o.worst_gap_s),
      color: outcomes.map((o) => args.colors[kind(o.layout)]),
      hatch: outcomes.map((o) => args.hatches[kind(o.layout)]),
      share: outcomes.map((o) => (o.attainment == null ? "" : percent(o.attainment))),
      rate: outcomes.map((o) => {
        const star = o === best && most > 0 ? " ★" : "";
        return o.goodput_rps == null ? "…" : `${o.goodput_rps.toFixed(1)}${star}`;
      }),
    };
    args.factors.factors = outcomes.map((o) => o.layout.name).reverse();
    args.reach.end = args.wider * Math.max(most, 0.01);
  }

  const kind = ({ n_prefill, chunk }) => (n_prefill ? 2 : chunk ? 1 : 0);

  function setup(s) {
    const gpus = s.gpus_per_engine === 1 ? s.gpu.name : `${s.gpus_per_engine} ${s.gpu.name}`;
    const gap = { mean: "mean gap", p95: "95 of 100 gaps", worst: "every gap" }[s.pace];
    return (
      `${s.n_engines} engines (${gpus} each), ${s.model.name}, ` +
      `${s.arrival_rate_rps} requests/s, prompts up to ${whole(s.prompt_tokens)} tokens, ` +
      `answers up to ${whole(s.output_tokens)}; limits: first token ${s.ttft_s} s, ${gap} ` +
      `${Math.round(1000 * s.gap_s)} ms; link ${s.link_bandwidth / 1e9} GB/s.`
    );
  }

  function tell(args, settings, outcomes) {
    const { one, two, word } = rule.verdict(outcomes);
    const best = two.goodput_rps > one.goodput_rps ? two : one;
    args.title.text = word === "none" ? "No layout keeps the limits" : `${word}: ${best.layout.name}`;
    const keep = outcomes.filter((o) => o.attainment >= args.share).length;
    args.alt.data = {
      text: [
        `${rule.advice(outcomes)} At ${settings.arrival_rate_rps} requests/s ${keep} of ` +
          `${outcomes.length} layouts keep the limits that often. ${setup(settings)}`,
      ],
    };
  }

  root.aiexplained.rules.atom_planner_view = { change, draw, tell, read };
})(globalThis);
