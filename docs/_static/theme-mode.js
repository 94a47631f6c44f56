// Runs before the page is painted, so that a reader of the dark theme sees no white flash. The
// theme's own script does the same, but only when the page has been read.
(() => {
  const root = document.documentElement;
  const chosen = (key) => {
    try {
      return localStorage.getItem(key) || root.dataset.theme || "auto";
    } catch {
      return "auto"; // storage is forbidden, as in some private windows
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const mode = chosen("mode");
  const theme = chosen("theme");
  root.dataset.mode = mode;
  root.dataset.theme = mode === "auto" || theme === "auto" ? system : theme;
})();
