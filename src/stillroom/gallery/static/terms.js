// What is typed into a search, taken apart: the same for images and for the library.

const TERM = /([a-z]+):("[^"]*"|[^\s"]+)|"[^"]*"?|[^\s"]+/gi;
const FIELDS = ["model", "lora", "sampler", "seed", "tool"];

/**
 * What the server is asked for a text such as `"red fox" model:sdxl seed:7`.
 * @param {string} text
 * @returns {Record<string, string>}
 */
export function parametersOf(text) {
  /** @type {Record<string, string>} */
  const found = {};
  const words = [];
  for (const [term, name, value] of text.matchAll(TERM)) {
    const field = name?.toLowerCase();
    if (field === "prompt") found.prompt = value; // there, as among words, quotes make a phrase
    else if (field && FIELDS.includes(field)) found[field] = value.replace(/"/g, "");
    else words.push(term);
  }
  return words.length ? { ...found, q: words.join(" ") } : found;
}
