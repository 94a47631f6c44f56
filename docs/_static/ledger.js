// Filters of the claims ledger. What is chosen stands in the address, so that it can be shared.
(() => {
  "use strict";
  const place = document.querySelector(".aix-filter");
  if (!place) return;
  const rows = [...document.querySelectorAll(".aix-ledger tr[data-verdict]")];
  const asked = new URLSearchParams(location.search);

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // One menu: every value that occurs, with how often it does.
  const menu = (key, title) => {
    const counts = new Map();
    for (const row of rows) counts.set(row.dataset[key], (counts.get(row.dataset[key]) || 0) + 1);
    const options = [...counts].map(([value, count]) =>
      element("option", { value, textContent: `${value} (${count})` }));
    const all = element("option", { value: "", textContent: `all (${rows.length})` });
    const select = element("select", { name: key }, all, ...options);
    if (counts.has(asked.get(key))) select.value = asked.get(key);
    place.append(element("label", {}, `${title} `, select));
    return select;
  };

  const menus = [menu("verdict", "Verdict"), menu("kind", "How we know")];
  const words = element("input", { type: "search", name: "words", value: asked.get("words") || "" });
  place.append(element("label", {}, "Words ", words));
  const said = element("output", {});
  place.append(said);

  const fits = (row) =>
    menus.every((select) => !select.value || row.dataset[select.name] === select.value) &&
    words.value.toLowerCase().split(/\s+/).every((word) => row.dataset.text.includes(word));

  // Squares of claims that are filtered out fade; tables without a row go, with their heading.
  const apply = () => {
    const shown = rows.filter(fits);
    for (const row of rows) {
      row.hidden = !shown.includes(row);
      const square = document.querySelector(`.aix-square[href="#${row.id}"]`);
      if (square) square.classList.toggle("aix-faded", row.hidden);
    }
    for (const table of document.querySelectorAll(".aix-ledger .aix-claims")) {
      const empty = !table.querySelector("tr[data-verdict]:not([hidden])");
      table.hidden = empty;
      table.previousElementSibling.hidden = empty;
    }
    said.textContent = `${shown.length} of ${rows.length} claims`;
    for (const field of [...menus, words]) {
      if (field.value) asked.set(field.name, field.value);
      else asked.delete(field.name);
    }
    const query = asked.toString();
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash);
  };

  // A link to a row must lead there, whatever is filtered.
  const showTarget = () => {
    const row = rows.find((row) => `#${row.id}` === location.hash);
    if (!row || !row.hidden) return;
    for (const field of [...menus, words]) field.value = "";
    apply();
    row.scrollIntoView();
  };

  for (const row of rows) {
    const heading = row.closest(".aix-claims").previousElementSibling;
    row.dataset.text = `${heading.textContent} ${row.textContent}`.toLowerCase();
  }
  place.addEventListener("input", apply);
  window.addEventListener("hashchange", showTarget);
  place.hidden = false;
  apply();
  showTarget();
})();
