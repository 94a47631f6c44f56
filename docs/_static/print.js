// Paper cannot be unfolded: open what is folded while the page is printed. Answers stay hidden, and
// so does the code behind figures.
(() => {
  "use strict";
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("article details:not([open], .hide, aix-question *)")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
