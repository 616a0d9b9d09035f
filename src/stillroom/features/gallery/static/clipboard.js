import { button, make, toast } from "./elements.js";

/**
 * Put a text on the clipboard; where a browser does not allow that, show it to be copied.
 * @param {string} text
 * @param {string} what
 */
export async function copy(text, what, told = "") {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied. ${told}`);
  } catch {
    const field = make("input", { class: "field", readOnly: true, value: text, "aria-label": what });
    const dialog = make("dialog", { class: "question", "aria-label": what }, field);
    dialog.append(make("div", { class: "answers" }, button("Close", null, () => dialog.close())));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  }
}
