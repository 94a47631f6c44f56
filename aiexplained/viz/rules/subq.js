// The seven selectors in the browser, for one head: the same choices and the same costs as in
// aiexplained/concepts/subq/selectors.py. A test runs both on the same inputs.
//
// A text is {nTokens, dim, query, key}, the two in rows of `dim` doubles. What Python draws at
// random comes with the options. A selector returns {lists, keyBlock, windowSize, dots}: for each
// query a list of runs of keys, in any order and with repeats; how near a key is read because it is
// new; and the products of two vectors as wide as a head that the choice took.
(function (root) {
  "use strict";
  const UNSEEN = 0, NOT_READ = 1, NEW = 2, CHOSEN = 3;

  function dot(a, i, b, j, dim) {
    let total = 0;
    for (let d = 0, p = i * dim, q = j * dim; d < dim; d += 1) total += a[p + d] * b[q + d];
    return total;
  }

  const emptyLists = (n) => Array.from({ length: n }, () => []);
  const round = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as Python's
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // Places of the k highest of the first `limit` scores; of equal ones, the newest.
  function best(scores, limit, k) {
    if (limit <= k) return Array.from({ length: limit }, (_, i) => i);
    const least = scores.slice(0, limit).sort()[limit - k];
    const found = [];
    for (let i = 0; i < limit; i += 1) if (scores[i] > least) found.push(i);
    for (let i = limit - 1; found.length < k; i -= 1) if (scores[i] === least) found.push(i);
    return found;
  }

  // A key enters its bucket once it has left the window: the last of a bucket are the newest.
  function addNewest(lists, home, asked, nBuckets, { windowSize, members }) {
    const buckets = emptyLists(nBuckets);
    for (let position = windowSize; position < lists.length; position += 1) {
      const key = position - windowSize;
      buckets[home[key]].push(key);
      for (const bucket of asked[position]) {
        lists[position].push(...buckets[bucket].slice(-members));
      }
    }
  }

  function window_({ nTokens }, { budget }) {
    return { lists: emptyLists(nTokens), keyBlock: 1, windowSize: budget, dots: 0 };
  }

  function hash({ nTokens, dim, query, key }, { budget, windowSize, members, planes, bits }) {
    const tables = Math.max(Math.floor((budget - windowSize) / members), 1);
    const lists = emptyLists(nTokens);
    const code = (x, i, table) => {
      let signs = 0;
      for (let bit = 0; bit < bits; bit += 1) {
        if (dot(x, i, planes, table * bits + bit, dim) > 0) signs += 2 ** bit;
      }
      return signs;
    };
    for (let table = 0; table < tables; table += 1) {
      const home = [], asked = [];
      for (let i = 0; i < nTokens; i += 1) {
        home.push(code(key, i, table));
        asked.push([code(query, i, table)]);
      }
      addNewest(lists, home, asked, 2 ** bits, { windowSize, members });
    }
    return { lists, keyBlock: 1, windowSize, dots: 2 * nTokens * tables * bits };
  }

  function centroid({ nTokens, dim, query, key }, { budget, windowSize, probes, centroids }) {
    const lists = emptyLists(nTokens);
    const count = centroids.length / dim;
    const asks = Math.min(probes, count);
    const members = Math.max(Math.floor((budget - windowSize) / asks), 1);
    const near = (x, i, k) => {
      const scores = new Float64Array(count);
      for (let c = 0; c < count; c += 1) scores[c] = dot(x, i, centroids, c, dim);
      return best(scores, count, k);
    };
    const home = [], asked = [];
    for (let i = 0; i < nTokens; i += 1) {
      home.push(near(key, i, 1)[0]);
      asked.push(near(query, i, asks));
    }
    addNewest(lists, home, asked, count, { windowSize, members });
    return { lists, keyBlock: 1, windowSize, dots: 2 * nTokens * count };
  }

  // Means of `size` rows at a time, complete groups only.
  function means(rows, size, dim) {
    const n = Math.floor(rows.length / dim / size);
    const out = new Float64Array(n * dim);
    for (let i = 0; i < n * size * dim; i += 1) {
      out[Math.floor(i / (size * dim)) * dim + (i % dim)] += rows[i];
    }
    return out.map((total) => total / size);
  }

  // Blocks, from the first, that are complete and do not lie in the window entirely.
  function completeBlocks(position, windowSize, blockSize) {
    const reach = Math.min(position + 1, position - windowSize + blockSize);
    return Math.floor(Math.max(reach, 0) / blockSize);
  }

  const blocksWanted = ({ budget, windowSize, blockSize }) =>
    Math.max(Math.floor((budget - windowSize) / blockSize), 1);

  function blockMean({ nTokens, dim, query, key }, options) {
    const { windowSize, blockSize } = options;
    const rows = means(key, blockSize, dim);
    const scores = new Float64Array(rows.length / dim);
    let dots = 0;
    const lists = emptyLists(nTokens).map((_, position) => {
      const limit = completeBlocks(position, windowSize, blockSize);
      for (let b = 0; b < limit; b += 1) scores[b] = dot(query, position, rows, b, dim);
      dots += limit;
      return best(scores, limit, blocksWanted(options));
    });
    return { lists, keyBlock: blockSize, windowSize, dots };
  }

  function twoLevels({ nTokens, dim, query, key }, options) {
    const { windowSize, blockSize, nGroups } = options;
    const rows = means(key, blockSize, dim);
    const size = Math.max(round(Math.sqrt(rows.length / dim / (nGroups + 1))), 1);
    const groups = means(rows, size, dim);
    const ofGroups = new Float64Array(groups.length / dim);
    let dots = 0;
    const lists = emptyLists(nTokens).map((_, position) => {
      const limit = completeBlocks(position, windowSize, blockSize);
      const complete = Math.floor(limit / size);
      for (let g = 0; g < complete; g += 1) ofGroups[g] = dot(query, position, groups, g, dim);
      // The group after the last complete one is open to all.
      const opened = [...best(ofGroups, complete, nGroups), complete];
      const blocks = opened
        .flatMap((group) => Array.from({ length: size }, (_, i) => group * size + i))
        .filter((block) => block < limit);
      const scores = Float64Array.from(blocks, (block) => dot(query, position, rows, block, dim));
      dots += complete + blocks.length;
      return best(scores, blocks.length, blocksWanted(options)).map((place) => blocks[place]);
    });
    return { lists, keyBlock: blockSize, windowSize, dots };
  }

  // The keys with the highest score, of all that have left the window.
  function highest(nTokens, score, { budget, windowSize }) {
    const scores = new Float64Array(nTokens);
    return emptyLists(nTokens).map((_, position) => {
      const limit = Math.max(position - windowSize + 1, 0);
      for (let i = 0; i < limit; i += 1) scores[i] = score(position, i);
      return best(scores, limit, budget - windowSize);
    });
  }

  const scored = (lists, windowSize) =>
    sum(lists.map((_, position) => Math.max(position - windowSize + 1, 0)));

  function project(rows, dim, across, width) {
    const out = new Float64Array((rows.length / dim) * width);
    for (let i = 0; i < out.length; i += 1) {
      const row = Math.floor(i / width) * dim, column = i % width;
      for (let d = 0; d < dim; d += 1) out[i] += rows[row + d] * across[d * width + column];
    }
    return out;
  }

  function indexer({ nTokens, dim, query, key }, options) {
    const { windowSize, narrow } = options;
    const width = narrow.length / dim;
    const queries = project(query, dim, narrow, width);
    const keys = project(key, dim, narrow, width);
    const score = (i, j) => Math.max(dot(queries, i, keys, j, width), 0);
    const lists = highest(nTokens, score, options);
    return { lists, keyBlock: 1, windowSize, dots: (scored(lists, windowSize) * width) / dim };
  }

  function oracle({ nTokens, dim, query, key }, options) {
    const lists = highest(nTokens, (i, j) => dot(query, i, key, j, dim), options);
    const { windowSize } = options;
    return { lists, keyBlock: 1, windowSize, dots: scored(lists, windowSize) };
  }

  const SELECTORS = {
    window: window_, hash, centroids: centroid, "block means": blockMean,
    "two levels": twoLevels, indexer, oracle,
  };

  // What becomes of each pair of a query (row) and a key: not to be seen yet, not read, read
  // because the key is new, or read because it was chosen.
  function states({ lists, keyBlock, windowSize }) {
    const n = lists.length;
    const out = new Uint8Array(n * n);
    lists.forEach((list, position) => {
      const row = out.subarray(position * n, position * n + position + 1);
      row.fill(NOT_READ);
      for (const run of list) row.fill(CHOSEN, run * keyBlock, (run + 1) * keyBlock);
      row.fill(NEW, Math.max(position - windowSize + 1, 0));
    });
    return out;
  }

  function select(name, text, options) {
    const chosen = SELECTORS[name](text, options);
    return { state: states(chosen), dots: chosen.dots };
  }

  const space = (root.aiexplained = root.aiexplained || {});
  space.rules = space.rules || {};
  space.rules.subq = { select, dot, UNSEEN, NOT_READ, NEW, CHOSEN };
})(globalThis);
