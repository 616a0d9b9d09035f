// Tags as chips: a field that makes them of what is typed, and what a change of them asks the server.

import { button, complain, count, dismiss, icon, make, toast } from "./elements.js";
import { libraryFragment } from "./router.js";

const PARTS = /[,\n]/;
const LONGEST_BYTES = 64;

/**
 * Tags as chips; each links to the resources with this tag.
 * @param {string[]} tags
 */
export const linkTags = (tags) => make("span", { class: "chips" }, ...tags.map((tag) =>
  make("a", { class: "chip", href: libraryFragment(`tag:"${tag.replaceAll('"', '""')}"`), dir: "auto" }, tag)));

/** A field for tags. A comma or Enter makes a chip of what was typed. */
export class TagField {
  /** @param {string} id of the field in which tags are typed */
  constructor(id) {
    /** @type {Set<string>} */
    this.chosen = new Set();
    this.chips = make("ul", { class: "chips" });
    this.input = make("input", { class: "field", id, autocomplete: "off", spellcheck: false, dir: "auto" });
    this.notice = make("p", { class: "notice", role: "alert" });
    this.elements = [this.chips, this.input, this.notice];
    this.input.addEventListener("input", () => { if (PARTS.test(this.input.value)) this.take(); });
    this.input.addEventListener("keydown", (event) => this.pressed(event));
  }

  get value() { return [...this.chosen]; }

  set value(tags) {
    this.chosen = new Set(tags);
    this.input.value = "";
    this.show();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Enter" && this.input.value.trim()) {
      event.preventDefault();
      this.take();
    } else if (event.key === "Backspace" && !this.input.value) {
      this.chosen.delete([...this.chosen].at(-1) ?? "");
      this.show();
    }
  }

  /** Make chips of what is in the field; false where some of it cannot be a tag, which stays there. */
  take() {
    const texts = this.input.value.split(PARTS).map((text) => text.normalize("NFC").trim()).filter(Boolean);
    const refused = texts.filter(faultOf);
    for (const text of texts) if (!refused.includes(text)) this.chosen.add(text);
    if (this.input.value) this.input.value = refused.join(", ");
    this.notice.textContent = refused.length ? faultOf(refused[0]) : "";
    this.show();
    return !refused.length;
  }

  show() {
    this.chips.replaceChildren(...[...this.chosen].map((tag) => {
      const chip = make("button", { type: "button", class: "chip", dir: "auto", "aria-label": `Remove the tag ${tag}` }, tag, icon("close"));
      chip.onclick = () => {
        this.chosen.delete(tag);
        this.show();
        this.input.focus();
      };
      return make("li", {}, chip);
    }));
  }
}

/** @param {string} tag */
function faultOf(tag) {
  if (tag.startsWith("-")) return "A tag does not begin with a minus. Remove the minus.";
  return new Blob([tag]).size > LONGEST_BYTES ? `A tag has at most ${LONGEST_BYTES} bytes. Shorten the tag.` : "";
}

/**
 * Add and take away tags of one resource: what was done to others elsewhere stays.
 * @param {Api} api
 * @param {string} id
 * @param {string[]} before
 * @param {string[]} after
 * @returns {Promise<string[] | null>} all that it has now; null where nothing was changed
 */
export async function changeTags(api, id, before, after) {
  const url = new URL(`media-resources/${id}/tags`, api.root);
  let now = null;
  for (const [method, tags] of [["POST", except(after, before)], ["DELETE", except(before, after)]]) {
    if (tags.length) now = (await (await api.ask(url, { method: String(method), body: { tags } })).json()).tags;
  }
  return now;
}

/** @type {(tags: string[], others: string[]) => string[]} */
const except = (tags, others) => tags.filter((tag) => !others.includes(tag));

/**
 * Ask for the tags of several resources, and change them: those that all have are shown.
 * @param {Api} api
 * @param {Resource[]} resources
 * @param {(resource: Resource) => void} changed
 */
export function tagMany(api, resources, changed) {
  const before = resources[0].tags.filter((tag) => resources.every(({ tags }) => tags.includes(tag)));
  const field = new TagField("tags-of-many");
  field.value = before;
  const dialog = make("dialog", { class: "question", "aria-labelledby": "tags-title" });
  const apply = async () => {
    if (!field.take()) return;
    const after = field.value;
    dialog.close();
    try {
      for (const resource of resources) {
        const tags = await changeTags(api, resource.id, before, after);
        if (tags) changed({ ...resource, tags });
      }
      toast(`Tags of ${count(resources.length, "image")} saved.`);
    } catch (/** @type {any} */ error) { complain(error.message); }
  };
  dialog.append(
    make("h2", { id: "tags-title" }, `Tags of ${count(resources.length, "image")}`),
    make("label", { htmlFor: "tags-of-many" }, "Tags that all have, separated by commas"),
    ...field.elements,
    make("div", { class: "answers" }, button("Cancel", null, () => dialog.close()), button("Save", null, apply, { kind: "primary" })),
  );
  dialog.addEventListener("close", () => dismiss(dialog));
  document.body.append(dialog);
  dialog.showModal();
}
