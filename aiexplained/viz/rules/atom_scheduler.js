// What one engine does in its next step, in the browser: aiexplained/serving/scheduler.py without
// prefix caching and delay gate. Prompts are lengths, blocks and written tokens are counts.
(function (root) {
  "use strict";
  const CHUNK_MULTIPLE = 64;

  // A request inside one engine.
  function makeSequence(id, prompt, maxNew, remote) {
    return { id, prompt, maxNew, remote, outputs: 0, blocks: 0, computed: 0, preemptions: 0 };
  }

  const lengthOf = (sequence) => sequence.prompt + sequence.outputs;

  class Scheduler {
    constructor(config) {
      this.config = config;
      this.free = config.n_blocks;
      this.waiting = [];
      this.running = [];
      this.parked = new Map();
      this.pinned = new Map();
    }

    blocksFor(nTokens) {
      return Math.ceil(nTokens / this.config.block_size);
    }

    loadTokens() {
      let load = 0;
      for (const sequence of this.waiting) load += lengthOf(sequence);
      for (const sequence of this.running) load += lengthOf(sequence);
      for (const sequence of this.parked.values()) load += lengthOf(sequence);
      return load;
    }

    add(sequence) {
      // The last token that is written has no keys and values: nothing follows it.
      const need = this.blocksFor(sequence.prompt + sequence.maxNew - 1);
      if (need > this.config.n_blocks) {
        throw new RangeError(
          `sequence ${sequence.id} needs ${need} blocks, the engine has ${this.config.n_blocks}`
        );
      }
      this.waiting.push(sequence);
    }

    schedule() {
      const fetch = this.park();
      const budget = this.config.max_num_batched_tokens;
      if (this.config.policy === "mixed") {
        const decode = this.decode();
        const prefill = this.prefill(budget - decode.length, decode.length > 0);
        return { prefill, decode, fetch };
      }
      const prefill = this.prefill(budget, false);
      return { prefill, decode: prefill.length ? [] : this.decode(), fetch };
    }

    hasRoom() {
      return this.running.length + this.parked.size < this.config.max_num_seqs;
    }

    park() {
      const fetch = [];
      while (this.waiting.length && this.waiting[0].remote && this.hasRoom()) {
        if (!this.reserve(this.waiting[0])) break;
        const sequence = this.waiting.shift();
        this.parked.set(sequence.id, sequence);
        fetch.push(sequence);
      }
      return fetch;
    }

    prefill(budget, hasTokens) {
      const pieces = [];
      const take = (sequence, count) => {
        pieces.push({ sequence, start: sequence.computed, count });
        budget -= count;
      };
      for (const sequence of this.running) {
        const length = lengthOf(sequence);
        if (sequence.computed >= length - 1 && sequence.outputs) continue;
        const count = this.cut(length - sequence.computed, budget, hasTokens || pieces.length > 0);
        if (count) take(sequence, count);
      }
      while (this.waiting.length && !this.waiting[0].remote && this.hasRoom() && budget >= 1) {
        const sequence = this.waiting[0];
        const count = this.cut(lengthOf(sequence), budget, hasTokens || pieces.length > 0);
        if (!count || !this.reserve(sequence)) break;
        this.running.push(this.waiting.shift());
        take(sequence, count);
      }
      return pieces;
    }

    cut(fresh, budget, batchHasTokens) {
      if (fresh <= budget || this.config.policy === "mixed") {
        return Math.max(Math.min(fresh, budget), 0);
      }
      const multiple = Math.max(this.config.block_size, CHUNK_MULTIPLE);
      const most = Math.max(budget, 0);
      const whole = most - (most % multiple);
      return whole || batchHasTokens ? whole : most;
    }

    reserve(sequence) {
      const need = this.blocksFor(lengthOf(sequence));
      if (need > this.free) return false;
      this.free -= need;
      sequence.blocks = need;
      sequence.computed = 0;
      return true;
    }

    decode() {
      const preempted = new Set();
      const decode = [];
      for (let i = 0; i < this.running.length; i++) {
        const sequence = this.running[i];
        if (!sequence.outputs || sequence.computed !== lengthOf(sequence) - 1) continue;
        if (decode.length === this.config.max_num_batched_tokens) break;
        if (this.blocksFor(lengthOf(sequence)) > sequence.blocks) {
          while (!this.free && !preempted.has(sequence)) preempted.add(this.preempt());
          if (preempted.has(sequence)) break;
          this.free -= 1;
          sequence.blocks += 1;
        }
        decode.push(sequence);
      }
      return preempted.size ? decode.filter((sequence) => !preempted.has(sequence)) : decode;
    }

    preempt() {
      const sequence = this.running.pop();
      this.free += sequence.blocks;
      sequence.blocks = sequence.computed = 0;
      sequence.preemptions += 1;
      this.waiting.unshift(sequence);
      return sequence;
    }

    // Returns who wrote a token, and who of them ended.
    finishStep(plan, pin) {
      const [writers, ended] = [[], []];
      for (const { sequence, start, count } of plan.prefill) {
        if (start + count === lengthOf(sequence)) writers.push(sequence);
        sequence.computed += count;
      }
      for (const sequence of plan.decode) {
        writers.push(sequence);
        sequence.computed += 1;
      }
      for (const sequence of writers) {
        sequence.outputs += 1;
        if (sequence.outputs >= sequence.maxNew) ended.push(sequence);
      }
      for (const sequence of ended) {
        this.running.splice(this.running.indexOf(sequence), 1);
        if (pin) this.pinned.set(sequence.id, sequence);
        else this.free += sequence.blocks;
      }
      return { writers, ended };
    }

    release(id) {
      this.free += this.pinned.get(id).blocks;
      this.pinned.delete(id);
    }

    arrive(id) {
      const sequence = this.parked.get(id);
      this.parked.delete(id);
      sequence.computed = lengthOf(sequence);
      sequence.outputs += 1;
      sequence.remote = false;
      if (sequence.outputs >= sequence.maxNew) this.free += sequence.blocks;
      else this.running.push(sequence);
    }
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.atom_scheduler = { Scheduler, makeSequence, lengthOf };
})(globalThis);
