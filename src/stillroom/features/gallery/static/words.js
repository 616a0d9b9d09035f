// Two texts, word by word: what both have in the same order, and what only one of them has.

// A word, a number, a character of a script without spaces, or a sign; each with the spaces behind it.
const TOKEN = /(?:\d+(?:\.\d+)?|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{M}_]+|\S)\s*/gu;
const MOST = 4_000_000; // comparisons, some 2,000 words each; of longer texts only the ends are compared

/** @typedef {{ text: string, isCommon: boolean }} Part */

/** @param {string} text */
const tokensOf = (text) => text.trim().match(TOKEN) ?? [];

/** @param {string[]} tokens */
const wordsOf = (tokens) => tokens.map((token) => token.trimEnd());

/**
 * The lengths of the longest common subsequences of all ends of two lists.
 * @param {string[]} some
 * @param {string[]} others
 */
function lengthsOf(some, others) {
  const width = others.length + 1;
  const lengths = new Uint16Array((some.length + 1) * width);
  for (let at = some.length - 1; at >= 0; at -= 1) {
    for (let there = others.length - 1; there >= 0; there -= 1) {
      lengths[at * width + there] = some[at] === others[there]
        ? lengths[(at + 1) * width + there + 1] + 1
        : Math.max(lengths[(at + 1) * width + there], lengths[at * width + there + 1]);
    }
  }
  return { lengths, width };
}

/**
 * Which words of a text another one has, too, in the same order.
 * @param {string[]} some
 * @param {string[]} others
 * @returns {boolean[]}
 */
function commonOf(some, others) {
  const least = Math.min(some.length, others.length);
  let before = 0;
  while (before < least && some[before] === others[before]) before += 1;
  let behind = 0;
  while (behind < least - before && some.at(-1 - behind) === others.at(-1 - behind)) behind += 1;
  const [mine, theirs] = [some, others].map((all) => all.slice(before, all.length - behind));
  const isCommon = some.map((_, at) => at < before || at >= some.length - behind);
  if (mine.length * theirs.length > MOST) return isCommon;
  const { lengths, width } = lengthsOf(mine, theirs);
  let [at, there] = [0, 0];
  while (at < mine.length && there < theirs.length) {
    if (mine[at] === theirs[there]) {
      isCommon[before + at] = true;
      at += 1;
      there += 1;
    } else if (lengths[(at + 1) * width + there] >= lengths[at * width + there + 1]) at += 1;
    else there += 1;
  }
  return isCommon;
}

/**
 * A text in parts: those that all of the others have, too, and those that one of them has not.
 * @param {string} text
 * @param {string[]} others
 * @returns {Part[]}
 */
export function partsOf(text, others) {
  const tokens = tokensOf(text);
  const common = others.map((other) => commonOf(wordsOf(tokens), wordsOf(tokensOf(other))));
  /** @type {Part[]} */
  const parts = [];
  for (const [at, token] of tokens.entries()) {
    const isCommon = common.every((all) => all[at]);
    const last = parts.at(-1);
    if (last?.isCommon === isCommon) last.text += token;
    else parts.push({ text: token, isCommon });
  }
  return parts;
}
