// Where an image came from and what was made from it, as small pictures that lead there.

import { folderOf, make, nameOf } from "./elements.js";
import { folderFragment, fragment } from "./router.js";
import { shapeFor } from "./thumbnails.js";

const FROM = "Made from";
const MOST = 12;
const EDGE = 128;
const SHA256 = /^[\da-f]{64}$/i;

/**
 * Facts of an image with its lineage: "Made from" is the text of the file where the sources are not stored here.
 * @param {Row[]} rows
 * @param {FolderShelf} shelf
 * @param {Metadata} facts
 * @returns {Row[]}
 */
export function withLineage(rows, shelf, { path, generation, derived_from: sources, derivatives }) {
  const isStored = (/** @type {string} */ name) => [name, folderOf(path) + name].some((one) => sources?.includes(one));
  const missing = generation?.derived_from?.filter((name) => !isStored(name) && !SHA256.test(name)) ?? [];
  const rest = sources?.length ? rows.filter(([label]) => label !== FROM) : rows;
  const unknown = missing.length ? make("p", {}, missing.join("\n")) : null;
  /** @type {Row[]} */
  const links = [];
  if (sources?.length) links.push([FROM, make("div", {}, strip(shelf, sources), unknown)]);
  if (derivatives) links.push([`Made into (${derivatives.toLocaleString()})`, derivativesOf(shelf, path, derivatives)]);
  return [...rest, ...links];
}

/**
 * @param {FolderShelf} shelf
 * @param {string} path
 * @param {number} amount
 */
function derivativesOf(shelf, path, amount) {
  const host = make("div");
  const all = folderFragment("", `derived_from:"${path.replaceAll('"', '""')}"`);
  shelf.api.found(shelf.api.search({ derived_from: path, limit: MOST })).then(
    ({ items }) => host.append(strip(shelf, items.map((item) => item.path)), amount > MOST
      ? make("p", { class: "row" }, make("a", { href: all }, `All ${amount.toLocaleString()}`)) : ""),
    (error) => host.append(error.message),
  );
  return host;
}

/**
 * @param {FolderShelf} shelf
 * @param {string[]} paths
 */
const strip = (shelf, paths) => make("ul", { class: "strip" }, ...paths.map((path) => make("li", {}, linkTo(shelf, path))));

/**
 * @param {FolderShelf} shelf
 * @param {string} path
 */
function linkTo(shelf, path) {
  const described = { key: path, name: nameOf(path), isFolder: false };
  const image = make("img", { alt: "", decoding: "async", draggable: false });
  image.dataset.key = path;
  const link = make("a", { href: fragment(path), title: path, "aria-label": path }, make("span", { "aria-hidden": "true" }, described.name), image);
  image.onload = () => link.classList.add("loaded");
  if (!shelf.isVideo(described)) shelf.show(image, described, shapeFor(EDGE), () => image.remove());
  else shelf.poster(described, shapeFor(EDGE)).then((url) => { if (url) image.src = url; }, () => {});
  return link;
}
