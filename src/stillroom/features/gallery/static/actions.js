// What is done with images: links, files, deleting, keeping. Each says how it went.

import { button, complain, count, make, nameOf, toast, withoutPosters } from "./elements.js";
import { libraryFragment } from "./router.js";

const LINK_FOR_S = 24 * 3600;
const DELETED_AT_ONCE = 100;
const INGESTED_AT_ONCE = 25;
const ZIPPED_AT_ONCE = 1000;
// A browser has begun to write a file by then.
export const KEPT_FOR_MS = 60_000;
const STOPPED = "stopped.";
const IN_PLACE = "compute/";

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

/**
 * Copy a link that works without a token, for a day.
 * @param {Api} api
 * @param {string} path
 */
export async function copyLink(api, path) {
  try {
    const { url } = await api.post("storage/signed-urls", { path, expires_in: LINK_FOR_S });
    await copy(url, "Link", "It works for 24 hours.");
  } catch (/** @type {any} */ error) {
    complain(error.message);
  }
}

/**
 * Copy a link to a resource: one that works without a token where there is one, else that of its page.
 * @param {Api} api
 * @param {Resource} resource
 */
export function copyResourceLink(api, { id, storage_key: key, url }) {
  if (key.startsWith(IN_PLACE)) return copyLink(api, key.slice(IN_PLACE.length));
  if (!url.endsWith(`/media-resources/${id}/file`)) return copy(url, "Link", "It works without a token.");
  return copy(new URL(libraryFragment(null, id), location.href).href, "Link", "It opens for those who can sign in.");
}

/**
 * Save images as files.
 * @param {Api} api
 * @param {string[]} paths
 */
export async function download(api, paths) {
  try {
    for (const url of await Promise.all(paths.map((path) => api.signedUrl(path)))) {
      save(url, nameOf(decodeURIComponent(new URL(url).pathname)));
    }
  } catch (/** @type {any} */ error) {
    complain(error.message);
  }
}

/**
 * Save images as ZIP files, as many as it takes.
 * @param {Api} api
 * @param {string[]} keys where they are stored
 * @param {string} name of the first, without its suffix
 */
export async function downloadZip(api, keys, name) {
  try {
    for (let at = 0; at < keys.length; at += ZIPPED_AT_ONCE) {
      const some = keys.slice(at, at + ZIPPED_AT_ONCE);
      const moved = some.filter((key) => !key.startsWith(IN_PLACE));
      const paths = some.filter((key) => key.startsWith(IN_PLACE)).map((key) => key.slice(IN_PLACE.length));
      toast(`Packing ${count(some.length, "image")} into a ZIP…`);
      const address = new URL("storage/archive", api.root);
      const answer = await api.ask(address, { method: "POST", body: { paths, ...(moved.length && { storage_keys: moved }) } });
      const url = URL.createObjectURL(await answer.blob());
      save(url, at ? `${name}-${at / ZIPPED_AT_ONCE + 1}.zip` : `${name}.zip`);
      setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR_MS);
    }
  } catch (/** @type {any} */ error) {
    const brokeOff = "The ZIP broke off: the connection was lost, or an image cannot be read. Try again, or select fewer images.";
    complain(error.name === "TypeError" ? brokeOff : error.message);
  }
}

/**
 * @param {string} url
 * @param {string} name
 */
export function save(url, name) {
  const link = document.createElement("a");
  // A CDN's answer is of another origin, where `download` is passed over: then it is shown, elsewhere.
  Object.assign(link, { href: url, download: name, target: "_blank", rel: "noopener" });
  link.click();
}

/**
 * Take resources out of the library; answers those that are out, and says why others are not.
 * @param {Api} api
 * @param {string[]} ids
 * @param {Work} work
 */
export async function removeResources(api, ids, work) {
  /** @type {string[]} */
  const gone = [];
  let refused = null;
  for (const [at, id] of ids.entries()) {
    work.tell(at, ids.length, "deleted");
    if (work.stopped) break;
    try {
      await api.delete(`media-resources/${id}`);
      gone.push(id);
    } catch (/** @type {any} */ error) {
      if (error.code === "resource_not_found") gone.push(id);
      else refused ??= error;
      if (error.status === 0 || error.status === 401) break;
    }
  }
  tellRemoved(gone.length, ids.length, refused?.message ?? STOPPED);
  return gone;
}

/**
 * @param {number} gone
 * @param {number} all
 * @param {string} why
 * @param {(text: string) => void} told
 */
function tellRemoved(gone, all, why, told = toast) {
  if (gone < all) complain(`${count(all - gone, "image")} not deleted: ${why}`);
  if (gone === all || (gone && told !== toast)) told(`${count(gone, "image")} deleted.`);
}

/**
 * Delete images; answers those that are gone, and says why others are not.
 * @param {Api} api
 * @param {string[]} paths
 * @param {Pick<Work, "stopped" | "tell">} work
 * @param {(text: string, ids: string[], paths: string[]) => void} undo offers to restore what is in the trash
 * @param {(paths: string[]) => Promise<string[]>} choose which of some are still to be deleted
 */
export async function removeAll(api, paths, work, undo, choose = async (some) => some) {
  /** @type {string[]} */
  const gone = [];
  /** @type {string[]} */
  const trashed = [];
  /** @type {{ detail: string }[]} */
  const kept = [];
  let spared = 0;
  try {
    for (let at = 0; at < paths.length; at += DELETED_AT_ONCE) {
      const piece = paths.slice(at, at + DELETED_AT_ONCE);
      work.tell(at, paths.length, "deleted");
      if (work.stopped) break;
      const some = await choose(piece);
      spared += withoutPosters(piece).length - withoutPosters(some).length;
      if (!some.length) continue;
      const { results } = await api.post("storage/delete", { paths: some });
      for (const result of results) {
        if (!result.code || result.code === "not_found") gone.push(result.path);
        else kept.push(result);
        if (result.trash_id) trashed.push(result.trash_id);
      }
    }
  } catch (/** @type {any} */ error) {
    kept.push({ detail: error.message });
  }
  for (const path of gone) api.forget(path);
  tellRemoved(withoutPosters(gone).length, withoutPosters(paths).length - spared, kept[0]?.detail ?? STOPPED,
    trashed.length ? (text) => undo(text, trashed, gone) : toast);
  return gone;
}

/**
 * Take images into the library.
 * @param {Api} api
 * @param {string[]} paths
 * @param {boolean} relocate move them, so that the originals are deleted later
 */
export async function keepAll(api, paths, relocate) {
  let done = 0;
  /** @type {{ detail: string }[]} */
  const refused = [];
  try {
    for (let at = 0; at < paths.length; at += INGESTED_AT_ONCE) {
      const items = paths.slice(at, at + INGESTED_AT_ONCE).map((path) => ({ storage_key: IN_PLACE + path, relocate }));
      const { results } = await api.post("media-resources/ingest", { items });
      for (const result of results) {
        if (result.code) refused.push(result);
        else done += 1;
      }
    }
  } catch (/** @type {any} */ error) {
    refused.push({ detail: error.message });
  }
  if (refused.length) complain(`${count(paths.length - done, "image")} not added: ${refused[0].detail}`);
  else toast(`${count(done, "image")} ${relocate ? "moved" : "added"} to the library.`);
  return done;
}
