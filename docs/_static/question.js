// <aix-question>: choose, check, read the feedback. A classic script, since modules do not load
// from file://. Without it the page shows the same texts in a <details>.
(function () {
  "use strict";

  function storageKey(element) {
    return "aix:" + location.pathname + "#" + element.getAttribute("key");
  }

  function remember(element, value) {
    try {
      sessionStorage.setItem(storageKey(element), value);
    } catch {
      // Private windows may refuse; the question works without memory.
    }
  }

  function recalled(element) {
    try {
      return sessionStorage.getItem(storageKey(element));
    } catch {
      return null;
    }
  }

  class Question extends HTMLElement {
    connectedCallback() {
      if (this.button) return;
      this.predicts = this.getAttribute("kind") === "predict";
      this.live = this.querySelector(".aix-live");
      this.details = this.querySelector("details");
      this.range = this.querySelector("input[type=range]");
      this.radios = Array.from(this.querySelectorAll("input[type=radio]"));
      this.feedback = Array.from(this.details.querySelectorAll(".aix-feedback"));
      this.reveal = this.details.querySelector(".aix-reveal");
      this.details.hidden = true;
      this.addButton();
      this.querySelector("fieldset").addEventListener("input", () => this.changed());
      this.restore();
    }

    addButton() {
      this.button = document.createElement("button");
      this.button.type = "button";
      this.button.className = "aix-check";
      this.button.textContent = "Check";
      this.button.disabled = !this.range;
      this.button.addEventListener("click", () => this.check());
      this.querySelector("fieldset").append(this.button);
    }

    changed() {
      this.button.disabled = false;
      if (this.range) {
        const said = (this.range.value + " " + this.range.dataset.unit).trim();
        this.querySelector("output").textContent = said;
        this.range.setAttribute("aria-valuetext", said);
      }
    }

    restore() {
      const saved = recalled(this);
      if (saved === null) {
        if (this.range) this.changed();
        return;
      }
      if (this.range) {
        this.range.value = saved;
      } else {
        const radio = this.radios.find((one) => one.value === saved);
        if (!radio) return;
        radio.checked = true;
      }
      this.changed();
      this.check();
    }

    check() {
      if (this.range) {
        this.answerGuess();
      } else {
        this.answerChoice();
      }
      this.setAttribute("answered", "");
    }

    answerGuess() {
      remember(this, this.range.value);
      const said = document.createElement("p");
      said.append("You said " + (this.range.value + " " + this.range.dataset.unit).trim() + ".");
      this.show([said, this.feedback[0], this.reveal]);
    }

    answerChoice() {
      const chosen = this.radios.find((one) => one.checked);
      if (!chosen) return;
      remember(this, chosen.value);
      const mine = this.feedback.find((one) => one.dataset.choice === chosen.value);
      const answer = this.feedback.find((one) => one.dataset.state === "right");
      const right = mine === answer;
      const told = right || this.predicts;
      this.mark(chosen, right, told ? answer.dataset.choice : null);
      this.show([mine, told && !right ? answer : null, told ? this.reveal : null]);
    }

    mark(chosen, right, answer) {
      for (const radio of this.radios) {
        const label = radio.closest("label");
        label.removeAttribute("data-state");
        if (radio === chosen) label.dataset.state = right ? "right" : "wrong";
        else if (radio.value === answer) label.dataset.state = "right";
      }
    }

    // Moves the texts, rather than copying them, so that no id exists twice.
    show(parts) {
      this.details.append(...this.live.querySelectorAll(":scope > div"));
      this.live.replaceChildren(...parts.filter(Boolean));
    }
  }

  customElements.define("aix-question", Question);
})();
