// Work on many images: a bar that says how far it is, a way to stop it, and the texts that are asked for first.

import { ask, button, complain, dismiss, make } from "./elements.js";

const AT_ONCE = 4;
const SHOWN_AFTER_MS = 400; // what is done sooner shows nothing that would flash

/** Shown while something is under way; nothing else can be done meanwhile. */
export class Work {
  /** @param {string} title */
  constructor(title) {
    this.stopped = false;
    this.told = make("p", {}, "Looking…");
    this.bar = make("progress", { max: 1, "aria-label": "Progress" });
    this.dialog = make(
      "dialog",
      { class: "question", "aria-labelledby": "work-title" },
      make("h2", { id: "work-title" }, title),
      this.told,
      this.bar,
      make("div", { class: "answers" }, button("Stop", null, () => this.stop())),
    );
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.stop();
    });
    this.dialog.addEventListener("close", () => this.stop()); // a second Escape, or the end of a session
    /** @type {number | undefined} */
    this.opening = undefined;
    this.open();
    this.stay = (/** @type {Event} */ event) => event.preventDefault();
    addEventListener("beforeunload", this.stay);
  }

  open() {
    clearTimeout(this.opening);
    this.opening = setTimeout(() => {
      document.body.append(this.dialog);
      if (!this.dialog.open) this.dialog.showModal();
    }, SHOWN_AFTER_MS);
  }

  /**
   * Ask what is to be done now that it does not go on by itself.
   * @param {string} title
   * @param {string} text
   * @param {{ text: string, value: string, kind?: string }[]} answers
   */
  async ask(title, text, answers) {
    clearTimeout(this.opening);
    this.dialog.close();
    const answer = await ask(title, [make("p", {}, text)], answers);
    this.stopped = false;
    this.open();
    return answer;
  }

  stop() {
    this.stopped = true;
    this.told.textContent = "Stopping…";
  }

  /**
   * @param {number} done
   * @param {number} all 0 where that is not known
   * @param {string} what
   */
  tell(done, all, what) {
    if (all) this.bar.value = done / all;
    else this.bar.removeAttribute("value");
    if (!this.stopped) this.told.textContent = all ? `${done.toLocaleString()} of ${all.toLocaleString()} ${what}` : `${done.toLocaleString()} ${what}`;
  }

  /**
   * Do something with each, a few at a time, until it is stopped or fails; answers what was not done, and why.
   * @template Item
   * @param {Item[]} items
   * @param {string} what
   * @param {(item: Item) => Promise<unknown>} job
   * @returns {Promise<{ left: Item[], failure: any }>}
   */
  async each(items, what, job) {
    const left = new Set(items);
    const following = items.values();
    /** @type {any} */
    let failure = null;
    const hand = async () => {
      for (const item of following) {
        try {
          await job(item);
          left.delete(item);
          this.tell(items.length - left.size, items.length, what);
        } catch (error) { failure ??= error; }
        if (failure || this.stopped) return;
      }
    };
    this.tell(0, items.length, what);
    await Promise.all(Array.from({ length: AT_ONCE }, hand));
    return { left: [...left], failure };
  }

  close() {
    clearTimeout(this.opening);
    removeEventListener("beforeunload", this.stay);
    dismiss(this.dialog);
  }
}

/**
 * Ask for one line of text, and do something with it. Where that is refused, the dialog says why and stays.
 * @param {string} title
 * @param {HTMLElement[]} body
 * @param {{ label: string, value: string, go: string, offer?: (input: HTMLInputElement) => HTMLElement }} how `offer`
 *   makes what stands below the input and fills it
 * @param {(text: string, close: () => void) => Promise<string>} attempt closes the dialog, or answers why it does not
 */
export function askText(title, body, { label, value, go, offer }, attempt) {
  const input = make("input", { class: "field", id: "answer", value, autocomplete: "off", spellcheck: false, dir: "auto" });
  const notice = make("p", { class: "notice", role: "alert" });
  const submit = async () => {
    if (input.readOnly) return;
    input.readOnly = true;
    notice.textContent = "";
    const text = input.value === value ? value : input.value.normalize("NFC").trim();
    notice.textContent = await attempt(text, () => input.closest("dialog")?.close());
    input.readOnly = false;
    if (input.isConnected) input.focus();
    else if (notice.textContent) complain(notice.textContent);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  ask(
    title,
    [...body, make("label", { htmlFor: "answer" }, label), input, notice, ...(offer ? [offer(input)] : [])],
    [{ text: "Cancel", value: "" }, { text: go, value: "", kind: "primary", onclick: submit }],
  );
  input.focus();
  input.select();
}
