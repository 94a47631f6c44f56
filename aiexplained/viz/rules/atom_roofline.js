// Where a step lies below the roof of a data sheet, as aiexplained/concepts/atom/hardware.py has it,
// and the figure of it. gpu: {name, flops, bandwidth, memory}; model: {name, n_params, n_layers,
// n_heads, n_kv_heads, head_dim, weight_bytes, kv_bytes}.
(function (root) {
  "use strict";

  function point(gpu, model, tokens, context) {
    const pairs = context ? tokens * context : (tokens * (tokens + 1)) / 2;
    const width = model.n_layers * model.n_heads * model.head_dim;
    const kv = 2 * model.n_layers * model.n_kv_heads * model.head_dim * model.kv_bytes;
    const operations = 2 * model.n_params * tokens + 4 * width * pairs;
    const fetched = model.n_params * model.weight_bytes + kv * tokens * context;
    const intensity = operations / fetched;
    const flops = Math.min(gpu.flops, intensity * gpu.bandwidth);
    return { intensity, flops, ridge: gpu.flops / gpu.bandwidth, idle_share: 1 - flops / gpu.flops };
  }

  const whole = (value) => Math.round(value).toLocaleString("en-US");
  const short = (value) => (value < 100 ? value.toFixed(1) : whole(value));
  const percent = (share) => `${(100 * share).toFixed(share > 0.99 ? 1 : 0)} %`;
  const answers = (n) => (n === 1 ? "one answer" : `${whole(n)} answers`);

  function side({ intensity, ridge, idle_share }) {
    if (idle_share === 0) return `beyond the ridge at ${short(ridge)}: arithmetic is the limit`;
    return (
      `below the ridge at ${short(ridge)}: memory is the limit and ${percent(idle_share)} of the ` +
      "arithmetic is idle"
    );
  }

  function draw(args) {
    const gpu = args.gpus[args.gpu.value];
    const model = args.models[args.model.value];
    const [batch, context, prompt] = ["batch", "context", "prompt"].map(
      (name) => args.values[name][args[name].value]
    );
    const found = [point(gpu, model, prompt, 0), point(gpu, model, batch, context)];
    const [read, write] = found;
    args.steps.data = {
      step: ["prefill", "decode"],
      intensity: found.map((p) => p.intensity),
      tflops: found.map((p) => p.flops / 1e12),
      idle: found.map((p) => 100 * p.idle_share),
      label: found.map((p) => (p.idle_share > 0 ? `${percent(p.idle_share)} idle` : "")),
      peak: found.map(() => gpu.flops / 1e12),
    };
    const [low, high] = args.reach;
    args.roof.data = {
      x: [low, write.ridge, high],
      y: [(low * gpu.bandwidth) / 1e12, gpu.flops / 1e12, gpu.flops / 1e12],
    };
    args.ridge.location = write.ridge;
    args.title.text =
      write.idle_share > 0
        ? `Decode leaves ${percent(write.idle_share)} of arithmetic idle`
        : "At this batch, decode uses all arithmetic";
    args.alt.data = {
      text: [
        `${gpu.name}, ${model.name}. Prefill of ${whole(prompt)} tokens does ` +
          `${short(read.intensity)} operations for each byte fetched, ${side(read)}. Decode of ` +
          `${answers(batch)} after ${whole(context)} tokens does ${short(write.intensity)}, ` +
          `${side(write)}.`,
      ],
    };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = Object.assign(space.rules || {}, { atom_roofline: { point, draw } });
})(globalThis);
