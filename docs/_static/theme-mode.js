// Runs before the page is painted, so that a reader of the dark theme sees no white flash.
(() => {
  const root = document.documentElement;
  const chosen = (key) => {
    try {
      return localStorage.getItem(key) || root.dataset.theme || "auto";
    } catch {
      return "auto"; // storage is forbidden, as in some private windows
    }
  };
  const mode = chosen("mode");
  const theme = chosen("theme");
  root.dataset.mode = mode;
  root.dataset.theme = theme;
})();
