// Renders a JSON list of {tex, display} from standard input to a list of {html} or {error}.
// Usage: node katex_batch.cjs path/to/katex.min.js
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const katex = require(path.resolve(process.argv[2]));

// Commands that link, load or style would otherwise be drawn in red and pass.
function refuse({ command }) {
  throw new Error(`${command} is not allowed`);
}

function render({ tex, display }) {
  try {
    return {
      html: katex.renderToString(tex, {
        displayMode: display,
        output: "htmlAndMathml",
        strict: "error",
        throwOnError: true,
        trust: refuse,
      }),
    };
  } catch (error) {
    return { error: error.message };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(render)));
