// ATOMesh's routing in the browser: the radix tree and the policies of aiexplained/serving. A test
// runs both on the same requests; policies that draw at random have a generator of their own here.
(function (root) {
  "use strict";

  function common(edge, text, start) {
    let n = 0;
    while (n < edge.length && start + n < text.length && edge[n] === text[start + n]) n += 1;
    return n;
  }

  class RadixTree {
    constructor() {
      this.root = { text: [], parent: null, children: new Map(), used: new Map() };
      this.clock = 0;
    }

    nodes() {
      const found = [];
      const todo = [...this.root.children.values()];
      while (todo.length) {
        const node = todo.pop();
        found.push(node);
        todo.push(...node.children.values());
      }
      return found;
    }

    // Pairs [engine, length], longest first; of equal lengths the engine used last.
    match(text) {
      let node = this.root;
      let depth = 0;
      const seen = new Map();
      while (depth < text.length && node.children.has(text[depth])) {
        const child = node.children.get(text[depth]);
        const shared = common(child.text, text, depth);
        depth += shared;
        for (const [engine, used] of child.used) seen.set(engine, [depth, used]);
        if (shared < child.text.length) break;
        node = child;
      }
      return [...seen]
        .sort(([, a], [, b]) => b[0] - a[0] || b[1] - a[1])
        .map(([engine, [length]]) => [engine, length]);
    }

    insert(text, engine) {
      this.clock += 1;
      let node = this.root;
      let depth = 0;
      while (depth < text.length) {
        const first = text[depth];
        if (!node.children.has(first)) {
          const leaf = { text: text.slice(depth), parent: node, children: new Map() };
          node.children.set(first, { ...leaf, used: new Map() });
        }
        let child = node.children.get(first);
        const shared = common(child.text, text, depth);
        if (shared < child.text.length) child = this.#split(child, shared);
        child.used.set(engine, this.clock);
        node = child;
        depth += shared;
      }
    }

    #split(node, at) {
      const [head, tail] = [node.text.slice(0, at), node.text.slice(at)];
      const upper = { text: head, parent: node.parent, used: new Map(node.used) };
      upper.children = new Map([[tail[0], node]]);
      node.parent.children.set(head[0], upper);
      node.text = tail;
      node.parent = upper;
      return upper;
    }

    evict(maxNodes) {
      let nodes = this.nodes();
      const lastUsed = (node) => Math.max(...node.used.values());
      while (nodes.length > maxNodes) {
        const leaves = nodes.filter((node) => !node.children.size);
        this.#drop(leaves.reduce((a, b) => (lastUsed(b) < lastUsed(a) ? b : a)));
        nodes = this.nodes();
      }
    }

    forget(engine) {
      for (const node of this.nodes().reverse()) {
        node.used.delete(engine);
        if (!node.used.size) this.#drop(node);
      }
    }

    #drop(leaf) {
      leaf.parent.children.delete(leaf.text[0]);
    }
  }

  // FNV-1a over 32-bit words, then the mixing steps of MurmurHash3.
  function tokenHash(tokens) {
    let value = 0x811c9dc5;
    for (const token of tokens) value = Math.imul(value ^ token, 0x01000193);
    value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
    value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
    return (value ^ (value >>> 16)) >>> 0;
  }

  function mulberry32(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let value = Math.imul(state ^ (state >>> 15), state | 1);
      value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
      return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // loads: {requests, tokens} of each engine, or null where it cannot be used.
  const available = (loads) => [...loads.keys()].filter((i) => loads[i] !== null);
  const turns = (i, after, n) => (((i - after - 1) % n) + n) % n;

  function lowest(engines, ...keys) {
    const below = (a, b) => {
      const key = keys.find((each) => each(a) !== each(b));
      return key !== undefined && key(a) < key(b);
    };
    return engines.reduce((best, i) => (below(i, best) ? i : best));
  }

  class FewestRequests {
    after = -1;

    choose(loads) {
      const inTurn = (i) => turns(i, this.after, loads.length);
      this.after = lowest(available(loads), (i) => loads[i].requests, inTurn);
      return this.after;
    }
  }

  class RandomChoice {
    constructor({ seed = 1 } = {}) {
      this.random = mulberry32(seed);
    }

    decide(request, loads) {
      const engines = available(loads);
      const engine = engines[Math.floor(this.random() * engines.length)];
      return { engine, reason: "drawn at random", share: 0 };
    }
  }

  class RoundRobin {
    after = -1;

    decide(request, loads) {
      this.after = lowest(available(loads), (i) => turns(i, this.after, loads.length));
      return { engine: this.after, reason: "next in turn", share: 0 };
    }
  }

  class PowerOfTwo {
    constructor({ seed = 1 } = {}) {
      this.random = mulberry32(seed);
    }

    decide(request, loads) {
      const engines = available(loads);
      const draw = () => engines.splice(Math.floor(this.random() * engines.length), 1);
      const drawn = [...draw(), ...draw()];
      const engine = lowest(drawn, (i) => loads[i].tokens);
      return { engine, reason: "fewer tokens of two", share: 0 };
    }
  }

  class LeastLoaded {
    decide(request, loads) {
      const engine = lowest(available(loads), (i) => loads[i].tokens);
      return { engine, reason: "fewest tokens", share: 0 };
    }
  }

  class CacheAware {
    constructor(options = {}) {
      const usual = { match_threshold: 0.5, balance_abs: 32, balance_rel: 1.1 };
      Object.assign(this, usual, { max_nodes: 10_000, evict_every_s: 30 }, options);
      this.tree = new RadixTree();
      this.fewest = new FewestRequests();
      this.evictAt = this.evict_every_s;
      this.known = new Set();
    }

    decide(request, loads, now = 0) {
      this.#keepTree(loads, now);
      const total = request.prompt.length;
      const seen = this.tree.match(request.prompt);
      const [best, length] = seen[0] ?? [-1, 0];
      let [engine, reason] = [best, "saw most of the prompt"];
      if (this.#differ(loads)) {
        [engine, reason] = [this.fewest.choose(loads), "loads differ: fewest requests"];
      } else if (!(length / total > this.match_threshold)) {
        [engine, reason] = [this.fewest.choose(loads), "low match: fewest requests"];
      }
      this.tree.insert(request.prompt, engine);
      this.known.add(engine);
      return { engine, reason, share: (new Map(seen).get(engine) ?? 0) / total };
    }

    #keepTree(loads, now) {
      for (const engine of this.known) {
        if (loads[engine] !== null) continue;
        this.tree.forget(engine);
        this.known.delete(engine);
      }
      if (now < this.evictAt) return;
      this.tree.evict(this.max_nodes);
      this.evictAt = now + this.evict_every_s;
    }

    #differ(loads) {
      const requests = available(loads).map((i) => loads[i].requests);
      const [high, low] = [Math.max(...requests), Math.min(...requests)];
      return high - low > this.balance_abs && high > this.balance_rel * low;
    }
  }

  class PrefixHash {
    constructor(options = {}) {
      Object.assign(this, { prefix_tokens: 256, load_factor: 1.25, n_points: 160 }, options);
      this.fewest = new FewestRequests();
      this.ring = [];
    }

    decide(request, loads) {
      const engine = this.owner(request.prompt, loads);
      const usable = available(loads);
      const total = usable.reduce((sum, i) => sum + loads[i].requests, 0);
      const limit = (this.load_factor * (total + 1)) / usable.length;
      if (total && loads[engine].requests > limit) {
        const reason = "owner is busy: fewest requests";
        return { engine: this.fewest.choose(loads), reason, share: 0 };
      }
      return { engine, reason: "owns the opening", share: 0 };
    }

    owner(prompt, loads) {
      if (this.ring.length !== loads.length * this.n_points) {
        const points = Array.from({ length: this.n_points }, (_, k) => k);
        this.ring = loads.flatMap((_, i) => points.map((k) => [tokenHash([i, k]), i]));
        this.ring.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      }
      const place = tokenHash(prompt.slice(0, this.prefix_tokens));
      const usable = this.ring.filter(([, engine]) => loads[engine] !== null);
      return (usable.find(([point]) => point >= place) ?? usable[0])[1];
    }
  }

  class Sticky {
    constructor(options = {}) {
      Object.assign(this, { idle_timeout_s: 7200 }, options);
      this.fewest = new FewestRequests();
      this.sessions = new Map();
    }

    decide(request, loads, now = 0) {
      const [held, used] = this.sessions.get(request.session) ?? [-1, 0];
      const stays = held >= 0 && now - used <= this.idle_timeout_s && loads[held] !== null;
      const engine = stays ? held : this.fewest.choose(loads);
      if (request.session >= 0) this.sessions.set(request.session, [engine, now]);
      return { engine, reason: stays ? "the session's engine" : "new session: fewest requests", share: 0 };
    }
  }

  const policies = {
    "cache aware": CacheAware,
    "prefix hash": PrefixHash,
    sticky: Sticky,
    "least loaded": LeastLoaded,
    "round robin": RoundRobin,
    "power of two": PowerOfTwo,
    random: RandomChoice,
  };

  // Each request stays in its engine until `stay` more have come; an engine's cache holds all that
  // it read. A step: the decision, what its engine had in its cache, the best match, the loads.
  function replay(requests, policy, options, { engines, stay }) {
    const router = new policies[policy](options);
    const cache = new RadixTree();
    const steps = [];
    const loadsAfter = (n) => {
      const loads = Array.from({ length: engines }, () => ({ requests: 0, tokens: 0 }));
      for (let i = Math.max(n - stay, 0); i < n; i += 1) {
        loads[steps[i].engine].requests += 1;
        loads[steps[i].engine].tokens += requests[i].prompt.length;
      }
      return loads;
    };
    requests.forEach((request, i) => {
      const decision = router.decide(request, loadsAfter(i), i);
      const seen = cache.match(request.prompt);
      cache.insert(request.prompt, decision.engine);
      const [found, best] = [new Map(seen).get(decision.engine) ?? 0, seen[0]?.[1] ?? 0];
      steps.push({ ...decision, found, best });
      steps[i].loads = loadsAfter(i + 1).map((load) => load.requests);
    });
    return { steps, cache };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.atom_router = { RadixTree, tokenHash, policies, replay };
})(globalThis);
