/* Draws the page's figures when the reader comes near them.

   A classic script: it works from file://, and it may run more than once (every notebook output
   carries a copy; the first one stays). */
(() => {
  "use strict";
  const root = window;
  const home = (root.aiexplained = root.aiexplained || {});
  home.rules = home.rules || {};
  home.documents = home.documents || {};
  if (home.scan) {
    home.scan();
    return;
  }

  const base = (document.currentScript?.src || "").replace(/[^/]*$/, "");
  const drawn = (home.drawn = new Map());
  const promises = new Map();

  home.reducedMotion = () => root.matchMedia("(prefers-reduced-motion: reduce)").matches;

  /* ---- scripts ------------------------------------------------------------------------- */

  function loadScript(url, integrity) {
    if (!promises.has(url)) {
      promises.set(url, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = url;
        script.async = false;
        if (integrity) {
          script.integrity = integrity;
          script.crossOrigin = "anonymous";
        }
        script.onload = () => resolve();
        script.onerror = () => reject(new Error(`${url.split("/").pop()} could not be loaded`));
        document.head.append(script);
      }));
    }
    return promises.get(url);
  }

  /* All at once: they run in this order, whichever arrives first. */
  function loadBokeh({ bokeh, parts, cdn, integrity }) {
    const hashes = JSON.parse(integrity || "{}");
    const missing = parts.split(" ").filter((part) => part === "bokeh"
      ? root.Bokeh?.version !== bokeh
      : root.Bokeh?.version !== bokeh || root.Bokeh.Models?.get?.("Slider", null) == null);
    return Promise.all(missing.map((part) => {
      const file = `${part}-${bokeh}.min.js`;
      return loadScript(`${cdn || `${base}bokeh`}/${file}`, hashes[file]);
    }));
  }

  function loadRules(names) {
    const missing = names.split(" ").filter((name) => name && !home.rules[name]);
    return Promise.all(missing.map((name) => loadScript(`${base}rules/${name}.js`)));
  }

  /* A large document is a script of its own, fetched with the figure (fetch() cannot read file://). */
  async function documentOf(figure) {
    const island = figure.querySelector(".aix-document");
    if (island) return island.textContent;
    const name = figure.dataset.hash;
    await loadScript(`${base}documents/${name}.js`);
    return home.documents[name];
  }

  /* ---- drawing ------------------------------------------------------------------------- */

  async function draw(figure) {
    if (figure.dataset.state !== "waiting") return;
    figure.dataset.state = "loading";
    const area = figure.querySelector(".aix-drawing");
    try {
      const [text] = await Promise.all([
        documentOf(figure),
        loadBokeh(figure.dataset),
        loadRules(figure.dataset.rules || ""),
      ]);
      const item = JSON.parse(text);
      const views = await root.Bokeh.embed.embed_item(item, area);
      const doc = views.roots[0].model.document;
      drawn.set(figure, { doc, views });
      recolor(figure);
      nameControls(views, doc);
      wrapTitles(views, doc);
      followAlt(figure, area, doc);
      offerTables(figure, doc);
      await idle(doc);
      figure.dataset.state = "ready";
    } catch (error) {
      figure.dataset.state = "failed";
      const note = document.createElement("p");
      note.className = "aix-error";
      note.textContent = `This figure could not be drawn (${error.message}). `
        + "The text below says what it shows.";
      area.replaceChildren(note);
      console.error(error);
    }
    figure.dispatchEvent(new CustomEvent("aix-drawn", { bubbles: true }));
  }

  function idle(doc) {
    if (doc.is_idle) return Promise.resolve();
    return new Promise((resolve) => {
      doc.idle.connect(resolve);
      setTimeout(resolve, 3000); // a page in a background tab never becomes idle
    });
  }

  const queue = [];
  let busy = false;
  const whenIdle = root.requestIdleCallback
    ? (task) => root.requestIdleCallback(task, { timeout: 500 })
    : (task) => setTimeout(task, 1);

  function pump() {
    if (busy || !queue.length) return;
    busy = true;
    whenIdle(async () => {
      await draw(queue.shift());
      busy = false;
      pump();
    });
  }

  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      queue.push(target);
    }
    pump();
  }, { rootMargin: "600px 0px" });

  home.scan = () => {
    const figures = document.querySelectorAll("figure.aix-figure[data-state=waiting]");
    for (const figure of figures) near.observe(figure);
    // What the first figure needs is fetched while the reader reads what stands before it.
    if (figures.length) {
      const failed = () => {}; // said in the figure, when it is drawn
      loadBokeh(figures[0].dataset).catch(failed);
      loadRules(figures[0].dataset.rules || "").catch(failed);
    }
  };

  home.drawAll = async () => {
    for (const figure of document.querySelectorAll("figure.aix-figure")) await draw(figure);
  };

  /* ---- theme --------------------------------------------------------------------------- */

  function recolor(figure) {
    const style = getComputedStyle(figure);
    for (const model of drawn.get(figure).doc.all_models) {
      const roles = model.tags?.find((tag) => tag?.["aix-theme"])?.["aix-theme"];
      for (const [name, role] of Object.entries(roles || {})) {
        const color = style.getPropertyValue(`--aix-${role}`).trim();
        const old = model[name];
        if (color) model[name] = old && typeof old === "object" ? { value: color } : color;
      }
    }
  }

  function repaint() {
    for (const [figure, { doc, views }] of drawn) {
      if (!figure.isConnected) {
        drawn.delete(figure);
        continue;
      }
      recolor(figure);
      for (const model of doc.all_models) {
        if (!(model instanceof root.Bokeh.Models.Plot)) continue;
        wipe(views.find_one(model));
        model.change.emit();
      }
    }
  }

  /* BokehJS clears its canvas half a pixel off and leaves a ghost of the first row and column. */
  function wipe(view) {
    const { primary, overlays } = view?.canvas_view || {};
    for (const layer of [primary, overlays]) {
      if (layer) layer.canvas.width = layer.canvas.width; // setting the size clears everything
    }
  }

  const switches = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light", "class"] };
  let theme = "";
  function themeChanged() {
    const figure = drawn.keys().next().value;
    if (!figure) return;
    const style = getComputedStyle(figure);
    const now = style.getPropertyValue("--aix-paper") + style.getPropertyValue("--aix-ink");
    if (now !== theme) {
      theme = now;
      repaint();
    }
  }
  const watcher = new MutationObserver(themeChanged);
  watcher.observe(document.documentElement, switches);
  watcher.observe(document.body, switches);
  root.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themeChanged);

  /* ---- names and values of controls ------------------------------------------------------ */

  function nameControls(views, doc) {
    for (const model of doc.all_models) {
      const view = model.default_view && views.find_one(model);
      const shadow = view?.shadow_el;
      if (!shadow) continue;
      const handles = shadow.querySelectorAll(".noUi-handle");
      const buttons = shadow.querySelectorAll(".bk-btn");
      if (handles.length) nameSlider(model, view, handles);
      else if (buttons.length && model.properties.labels) nameButtons(model, shadow, buttons);
      else if (buttons.length && "active" in model.properties) {
        follow(model, "active", () => buttons[0].setAttribute("aria-pressed", model.active));
      }
    }
  }

  function follow(model, property, update) {
    model.properties[property].change.connect(update);
    update();
  }

  function nameSlider(model, view, handles) {
    const pretty = (value) => String(view.pretty ? view.pretty(value) : value);
    const update = () => {
      const values = Array.isArray(model.value) ? model.value : [model.value];
      handles.forEach((handle, i) => {
        const end = values.length > 1 ? [" from", " to"][i] : "";
        const label = (model.title || model.name || "value") + end;
        const text = pretty(values[i]);
        if (handle.getAttribute("aria-label") !== label) handle.setAttribute("aria-label", label);
        if (handle.getAttribute("aria-valuetext") !== text) {
          handle.setAttribute("aria-valuetext", text);
        }
      });
    };
    // The slider writes its own value text after every move: ours has the last word.
    const last = new MutationObserver(update);
    for (const handle of handles) {
      last.observe(handle, { attributes: true, attributeFilter: ["aria-valuetext"] });
    }
    follow(model, "value", update);
  }

  function nameButtons(model, shadow, buttons) {
    const group = shadow.querySelector(".bk-btn-group");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", model.name || "options");
    follow(model, "active", () => {
      const active = [model.active].flat();
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", active.includes(i)));
    });
  }

  /* ---- titles of plots: one sentence, in as many lines as the width asks for ---------------- */

  const pen = document.createElement("canvas").getContext("2d");

  function wrapTitles(views, doc) {
    for (const plot of doc.all_models) {
      const title = plot instanceof root.Bokeh.Models.Plot ? plot.title : null;
      const view = title?.text && views.find_one(plot);
      if (!view) continue;
      let whole = title.text;
      let wrapped = whole;
      const fit = () => {
        if (title.text !== wrapped) whole = title.text; // a callback gave it another text
        const room = view.bbox.right - view.frame.bbox.left - 4;
        pen.font = `${title.text_font_style} ${title.text_font_size} ${title.text_font}`;
        wrapped = lines(whole, room).join("\n");
        if (title.text !== wrapped) {
          title.text = wrapped;
          setTimeout(() => { // the new text is built asynchronously
            wipe(view);
            view.invalidate_layout();
          });
        }
      };
      title.properties.text.change.connect(fit);
      new ResizeObserver(fit).observe(view.el);
      fit();
    }
  }

  function lines(text, room) {
    const found = [];
    for (const word of text.split(/\s+/)) {
      const longer = found.length ? `${found.at(-1)} ${word}` : word;
      if (found.length && pen.measureText(longer).width <= room) found.splice(-1, 1, longer);
      else found.push(word);
    }
    return found;
  }

  /* ---- text alternative ------------------------------------------------------------------ */

  function followAlt(figure, area, doc) {
    const source = [...doc.all_models].find((model) => model.name === "aix-alt");
    const caption = figure.querySelector(".aix-caption");
    if (!source) return;
    follow(source, "data", () => {
      const text = String(column(source, "text")[0]);
      if (caption.textContent !== text) caption.textContent = text;
      area.setAttribute("aria-label", text);
    });
  }

  /* ---- data as a table ------------------------------------------------------------------- */

  const MOST_ROWS = 500;

  function column(source, name) {
    const data = source.data;
    return Array.from((data instanceof Map ? data.get(name) : data[name]) || []);
  }

  function offerTables(figure, doc) {
    const details = figure.querySelector(".aix-data");
    if (!details) return;
    const sources = [...doc.all_models].filter(
      (model) => model.type === "ColumnDataSource" && model.name && !model.name.startsWith("aix-"),
    );
    const box = document.createElement("div");
    details.append(box);
    const rebuild = () => {
      if (details.open) box.replaceChildren(...sources.map(tableOf));
    };
    details.addEventListener("toggle", rebuild);
    for (const source of sources) {
      source.properties.data.change.connect(rebuild);
      source.patching.connect(rebuild);
      source.streaming.connect(rebuild);
    }
    rebuild();
  }

  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function tableOf(source) {
    const note = source.tags.find((tag) => tag?.columns) || {};
    const names = note.columns
      ? Object.entries(note.columns)
      : Object.keys(source.data).filter((key) => !/^(_|aix|index$)/.test(key)).map((key) => [key, key]);
    const columns = names.map(([key]) => column(source, key));
    const rows = Math.max(0, ...columns.map((values) => values.length));
    const shown = Math.min(rows, MOST_ROWS);
    const label = note.label || source.name;
    const caption = shown < rows ? `${label} (first ${shown} of ${rows} rows)` : label;
    const head = element("tr", {}, ...names.map(([, title]) => element("th", { scope: "col" }, title)));
    const body = Array.from({ length: shown }, (_, i) => element("tr", {}, ...columns.map(
      (values) => element("td", { className: typeof values[i] === "number" ? "aix-number" : "" },
        readable(values[i])),
    )));
    const table = element("table", {}, element("caption", {}, caption),
      element("thead", {}, head), element("tbody", {}, ...body));
    const box = element("div", { className: "aix-scroll", tabIndex: 0 }, table);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", label);
    return box;
  }

  function readable(value) {
    if (value == null || Number.isNaN(value)) return "–";
    if (typeof value !== "number") return String(value);
    // float32 columns would show 0.10000000149: six digits are what they hold.
    return String(Number(value.toPrecision(6))).replace("-", "−");
  }

  root.addEventListener("beforeprint", () => void home.drawAll());
  home.scan();
})();
