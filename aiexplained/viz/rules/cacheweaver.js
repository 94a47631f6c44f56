// CacheWeaver's rule in the browser: the same tree, walk, oracle and block cache as in
// aiexplained/concepts/cacheweaver and aiexplained/serving. A test runs both on the same inputs.
(function (root) {
  "use strict";
  const TOKEN_STRIDE = 2 ** 20;

  class PrefixTree {
    constructor(window) {
      this.window = window;
      this.clock = 0;
      this.top = { lastUsed: 0, children: new Map() };
      this.recent = [];
      this.counts = new Map();
    }

    serve(order) {
      this.clock += 1;
      let node = this.top;
      for (const passage of order) {
        if (!node.children.has(passage)) node.children.set(passage, { children: new Map() });
        node = node.children.get(passage);
        node.lastUsed = this.clock;
      }
      this.recent.push(order);
      this.#count(order, 1);
      while (this.recent.length > this.window) this.#count(this.recent.shift(), -1);
    }

    #count(order, by) {
      for (const passage of order) this.counts.set(passage, this.popularity(passage) + by);
    }

    popularity(passage) {
      return this.counts.get(passage) ?? 0;
    }

    isCached(node) {
      return this.clock - node.lastUsed < this.window;
    }

    cachedChild(node, passage) {
      const child = node.children.get(passage);
      return child !== undefined && this.isCached(child) ? child : null;
    }

    depth(order) {
      let node = this.top;
      let depth = 0;
      for (const passage of order) {
        node = this.cachedChild(node, passage);
        if (node === null) break;
        depth += 1;
      }
      return depth;
    }
  }

  function orderedTail(rest, tree, tail) {
    if (tail !== "popular") return rest;
    return rest
      .map((passage, rank) => [passage, rank])
      .sort((a, b) => tree.popularity(b[0]) - tree.popularity(a[0]) || a[1] - b[1])
      .map(([passage]) => passage);
  }

  function weave(passages, tree, tail = "retrieval") {
    const rest = [...passages];
    const order = [];
    let node = tree.top;
    while (rest.length) {
      const at = rest.findIndex((passage) => tree.cachedChild(node, passage) !== null);
      if (at < 0) break;
      const [passage] = rest.splice(at, 1);
      order.push(passage);
      node = node.children.get(passage);
    }
    return [...order, ...orderedTail(rest, tree, tail)];
  }

  function deepest(passages, tree) {
    const search = (node, used) => {
      let best = used;
      for (const passage of passages) {
        if (used.includes(passage)) continue;
        const child = tree.cachedChild(node, passage);
        if (child === null) continue;
        const found = search(child, [...used, passage]);
        if (found.length > best.length) best = found;
      }
      return best;
    };
    const path = search(tree.top, []);
    return [...path, ...passages.filter((passage) => !path.includes(passage))];
  }

  // Chained block keys: a key names its parent, so equal keys mean equal text from the start.
  class BlockCache {
    constructor(capacityBlocks, blockSize) {
      this.capacity = capacityBlocks;
      this.blockSize = blockSize;
      this.names = new Map(); // "parent:pieces" -> number of the chained key
      this.cached = new Map(); // insertion order is the order of use, oldest first
    }

    // Tokens come as runs [first, count] of consecutive ids; a block is named by its pieces of runs.
    keys(runs) {
      const keys = [];
      let parent = 0;
      let name = "";
      let filled = 0;
      for (const [first, count] of runs) {
        for (let at = 0; at < count; ) {
          const take = Math.min(this.blockSize - filled, count - at);
          name += `:${first + at}+${take}`;
          filled += take;
          at += take;
          if (filled < this.blockSize) continue;
          name = parent + name;
          if (!this.names.has(name)) this.names.set(name, this.names.size + 1);
          parent = this.names.get(name);
          keys.push(parent);
          name = "";
          filled = 0;
        }
      }
      return keys;
    }

    match(keys, tokenCount) {
      const usable = Math.floor(Math.max(tokenCount - 1, 0) / this.blockSize);
      let n = 0;
      while (n < Math.min(usable, keys.length) && this.cached.has(keys[n])) n += 1;
      return n;
    }

    insert(keys) {
      const kept = keys.slice(0, this.capacity);
      const touch = (key) => {
        this.cached.delete(key);
        this.cached.set(key, true);
      };
      for (const key of [...kept].reverse()) if (this.cached.has(key)) touch(key);
      for (const key of kept) {
        if (this.cached.has(key)) continue;
        if (this.cached.size >= this.capacity) this.cached.delete(this.cached.keys().next().value);
        this.cached.set(key, true);
      }
      for (const key of [...kept].reverse()) touch(key);
    }
  }

  function prompt(order, lengths, engine, request) {
    return [
      [0, engine.instruction_tokens],
      ...order.map((passage) => [(passage + 1) * TOKEN_STRIDE, lengths[passage]]),
      [-(request + 1) * TOKEN_STRIDE, engine.question_tokens],
    ];
  }

  const policies = {
    retrieval: (passages) => [...passages],
    sorted: (passages) => [...passages].sort((a, b) => a - b),
    greedy: (passages, tree) => weave(passages, tree),
    repaired: (passages, tree) => weave(passages, tree, "popular"),
    oracle: (passages, tree) => deepest(passages, tree),
  };

  // engine: {capacity_blocks, block_size, window, instruction_tokens, question_tokens}
  function simulate(trace, lengths, policy, engine) {
    const tree = new PrefixTree(engine.window);
    const cache = new BlockCache(Math.max(engine.capacity_blocks, 1), engine.block_size);
    const run = { cached: [], total: [], order: [] };
    trace.forEach((passages, request) => {
      const order = policies[policy](passages, tree);
      const runs = prompt(order, lengths, engine, request);
      const total = runs.reduce((sum, [, count]) => sum + count, 0);
      const keys = cache.keys(runs);
      const hit = engine.capacity_blocks ? cache.match(keys, total) : 0;
      cache.insert(keys);
      tree.serve(order);
      run.cached.push(hit * engine.block_size);
      run.total.push(total);
      run.order.push(order);
    });
    return run;
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.cacheweaver = { PrefixTree, BlockCache, weave, deepest, simulate, policies, median };
})(globalThis);
