// @ts-nocheck (its state is in module variables yet)
// The page as a whole: who is signed in, where they are, and what is shown there.

import { Api, Refused, claimsOf } from "./api.js";
import { copyLink, download, keepAll } from "./actions.js";
import { ask, button, by, count, folderOf, icon, make, nameOf, say, toast } from "./elements.js";
import { Grid } from "./grid.js";
import { Folder, Library } from "./listing.js";
import { FolderShelf, LibraryShelf } from "./shelves.js";
import { LibraryPictures, Thumbnails, shapeFor } from "./thumbnails.js";
import { Uploads, filesOf, pathFor } from "./uploads.js";
import { Viewer } from "./viewer.js";

const TOKEN = "stillroom.token";
const REMEMBERED = 12; // places, with what was loaded of them, for Back
const MOST_DOWNLOADS = 20;
const RETRIED_AFTER_S = 5;
const ENDED = "token_expired"; // the server's word, since clocks differ

let api = null;
let claims = {};
let shelf = null;
let place = null;
let failure = null;
let pictures = null;
let libraryPictures = null;
let comesBack = false;
let left = null; // what was chosen where, when a token ended
const visited = new Map();

// Signing in ---------------------------------------------------------------------------------------

function signedOut(notice = "") {
  sessionStorage.removeItem(TOKEN);
  api = null;
  shelf?.collection.cancel();
  shelf = null;
  place = null;
  visited.clear();
  libraryPictures?.close();
  viewer.close();
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  grid.clear();
  by("app").hidden = true;
  by("sign-in").hidden = false;
  by("sign-in-notice").textContent = notice;
  document.title = "Sign in – Stillroom";
  by("token").value = "";
  by("token").focus();
}

function unauthorized(from, { code }) {
  if (from !== api) return; // an answer to a session that has ended
  const ended = code === ENDED;
  left = ended && place && { key: keyOf(place), chosen: [...grid.selected] };
  signedOut(ended
    ? `Your token ended ${new Date(claims.exp * 1000).toLocaleString()}. Sign in with a new one to go on.`
    : "The server does not take this token any more. Sign in with another one to go on.");
}

async function signIn(token) {
  const candidate = new Api(token, () => {});
  try {
    await candidate.ask(candidate.listing({ delimiter: "/", limit: 1 }));
  } catch (error) {
    if (error.status === 401) {
      throw new Refused(401, error.code === ENDED
        ? `This token ended ${new Date(claimsOf(token).exp * 1000).toLocaleString()}. Get a new one.`
        : "The server does not take this token. Has all of it been copied?");
    }
    if (error.status !== 403) throw error; // it may be good for other things
  }
  sessionStorage.setItem(TOKEN, token);
  enter(token);
}

function enter(token) {
  api = new Api(token, unauthorized);
  claims = claimsOf(token);
  pictures = new Thumbnails(api);
  libraryPictures = new LibraryPictures(api);
  by("sign-in").hidden = true;
  by("app").hidden = false;
  by("upload").hidden = !may("storage:write");
  by("tab-library").hidden = !may("media") || Boolean(claims.prefix);
  route();
  uploads.start();
}

/** Whether the token names this right; the server has the last word. */
function may(scope) {
  return typeof claims.scope !== "string" || claims.scope.split(" ").includes(scope);
}

by("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = by("token").value.trim();
  by("sign-in-go").disabled = true;
  by("sign-in-notice").textContent = "";
  try {
    await signIn(token);
  } catch (error) {
    by("sign-in-notice").textContent = error.message;
    by("token").select();
  } finally {
    by("sign-in-go").disabled = false;
  }
});

by("sign-out").onclick = () => {
  left = null;
  uploads.stop();
  signedOut();
};

// Where we are -------------------------------------------------------------------------------------

const fragment = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;

/** The fragment taken apart: a folder, a picture in one, the library, or a picture of it. */
function whereabouts() {
  const [address, query = ""] = location.hash.slice(1).split("?");
  const home = { view: "folder", folder: folderOfToken(), begins: "", picture: null };
  try {
    if (address === "library") return { view: "library", picture: null };
    if (address.startsWith("library/")) return { view: "library", picture: address.slice(8) };
    if (!address.startsWith("/")) return home;
    const path = address.slice(1).split("/").map(decodeURIComponent).join("/");
    const begins = new URLSearchParams(query).get("begins") ?? "";
    if (path === "" || path.endsWith("/")) return { view: "folder", folder: path, begins, picture: null };
    return { view: "folder", folder: folderOf(path), begins: "", picture: path };
  } catch {
    return home; // an escape that is none
  }
}

function folderOfToken() {
  const prefix = typeof claims.prefix === "string" ? claims.prefix : "";
  return prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix;
}

function folderFragment(folder, begins = "") {
  return fragment(folder) + (begins ? `?${new URLSearchParams({ begins })}` : "");
}

function go(hash, { replace = false } = {}) {
  comesBack = false;
  history[replace ? "replaceState" : "pushState"]({ inside: !replace || history.state?.inside }, "", hash);
  route();
}

addEventListener("popstate", () => {
  comesBack = true;
  if (api) route();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

function route() {
  const wanted = whereabouts();
  const isSame = place && shelf && wanted.view === place.view && (wanted.view === "library"
    || (wanted.folder === place.folder && (wanted.picture !== null || wanted.begins === place.begins)));
  if (isSame) wanted.begins = place.begins;
  if (!isSame || (wanted.picture === null && place.picture === null && !comesBack)) showPlace(wanted);
  place = wanted;
  if (wanted.picture === null) {
    if (viewer.isOpen) leaveViewer();
  } else showPicture(wanted);
  tellTitle();
}

function tellTitle() {
  const name = place.picture !== null ? by("viewer-name").textContent
    : place.view === "library" ? "Library" : nameOf(place.folder) || "All images";
  document.title = `${name} – Stillroom`;
}

const keyOf = ({ view, folder, begins }) => (view === "library" ? "library" : JSON.stringify([folder, begins]));

/** The grid of a folder or the library. Back finds it as it was left. */
function showPlace(wanted) {
  const key = keyOf(wanted);
  if (shelf) shelf.collection.scrolledTo = scrollY;
  let collection = comesBack ? visited.get(key) : undefined;
  const isLibrary = wanted.view === "library";
  if (!collection || !collection.length) {
    collection = isLibrary ? new Library(api) : new Folder(api, wanted.folder, wanted.begins);
  }
  visited.delete(key);
  visited.set(key, collection);
  for (const oldest of visited.keys()) {
    if (visited.size <= REMEMBERED) break;
    visited.delete(oldest);
  }
  failure = null;
  const hooks = { may, keep, remove };
  shelf = isLibrary
    ? new LibraryShelf(collection, libraryPictures, hooks)
    : new FolderShelf(collection, pictures, hooks);
  by("tab-images").setAttribute("aria-current", isLibrary ? "false" : "page");
  by("tab-library").setAttribute("aria-current", isLibrary ? "page" : "false");
  by("finder").hidden = isLibrary;
  by("upload").hidden = isLibrary || !may("storage:write");
  if (document.activeElement !== by("begins")) by("begins").value = wanted.begins ?? "";
  showCrumbs(wanted);
  by("grid").setAttribute("aria-label", isLibrary ? "Pictures in the library" : "Pictures");
  by("grid").hidden = false;
  grid.use(collection);
  showState();
  if (collection.length) {
    if (collection.current && wanted.picture === null) grid.focus();
    return;
  }
  grid.retry().then(() => {
    if (shelf?.collection !== collection) return;
    if (left?.key === key) grid.choosing.choose(left.chosen);
    left = null;
    showState();
    say(by("told").textContent || stateText());
  });
}

function showCrumbs(wanted) {
  const crumbs = [];
  if (wanted.view === "library") crumbs.push(make("li", {}, make("h1", {}, "Library")));
  else {
    const parts = wanted.folder.split("/").slice(0, -1);
    let above = "";
    const names = ["All images", ...parts];
    names.forEach((name, at) => {
      if (at) above += `${name}/`;
      crumbs.push(make("li", {}, at === names.length - 1
        ? make("h1", { dir: "auto" }, name)
        : make("a", { href: fragment(above), dir: "auto" }, name)));
    });
  }
  by("crumbs").replaceChildren(...crumbs);
}

// What there is to say -----------------------------------------------------------------------------

/** Say how much there is, or why nothing shows and what to do. */
function showState() {
  const { collection } = shelf;
  const some = collection.length > 0;
  const what = collection instanceof Library ? "resource" : "entry";
  const many = what === "entry" ? "entries" : "resources";
  by("told").textContent = some
    ? `${collection.length.toLocaleString()}${collection.complete ? "" : "+"} ${collection.length === 1 ? what : many}`
    : "";
  by("grid").hidden = !some;
  const state = some ? null : stateOf(collection);
  by("state").hidden = state === null;
  by("state").replaceChildren(...(state ?? []));
  showFoot(collection, some);
}

const stateText = () => [...by("state").querySelectorAll("h2, p")].map((one) => one.textContent).join(" ");

function showFoot(collection, some) {
  const foot = by("foot");
  foot.hidden = !some || (!failure && !grid.isFull);
  if (foot.hidden) return;
  foot.replaceChildren(...(failure
    ? [`${failure.message} `, button("Try again", "again", tryAgain)]
    : ["That is as far as a page can go. Type how a name begins to see what follows."]));
}

function stateOf(collection) {
  if (failure) return troubleState(failure);
  if (!collection.complete) return []; // on its way; nothing that would flash
  if (collection instanceof Library) {
    return [
      icon("keep"),
      make("h2", {}, "Nothing is kept yet"),
      make("p", {}, "Choose pictures among the images and keep them: they get a place that never changes."),
      make("div", { class: "row" }, link("To the images", "#/")),
    ];
  }
  if (collection.begins) {
    return [
      icon("find"),
      make("h2", {}, "Nothing begins like this"),
      make("p", {}, "Names are compared letter by letter, and capitals count."),
      make("div", { class: "row" }, link("Show all of the folder", folderFragment(collection.folder))),
    ];
  }
  if (!may("storage:write")) {
    return [icon("folder"), make("h2", {}, "Nothing here yet"), make("p", {}, "What is saved here will show.")];
  }
  return [
    icon("up"),
    make("h2", {}, "Nothing here yet"),
    make("p", {}, "Drop pictures or folders anywhere on this page, or choose some."),
    make(
      "div",
      { class: "row" },
      button("Choose files", "up", () => by("files").click(), { kind: "primary" }),
      button("Choose a folder", "folder", () => by("folder").click()),
    ),
  ];
}

const link = (text, href) => make("a", { class: "button", href }, text);

function troubleState(error) {
  const again = make("div", { class: "row" }, button("Try again", "again", tryAgain, { kind: "primary" }));
  if (error.status === 403) {
    return [
      icon("out"),
      make("h2", {}, "Not with this token"),
      make("p", {}, `The server says: ${error.message}`),
      make("p", {}, claims.prefix
        ? `It is for the folder ${folderOfToken()} alone.`
        : "Sign in with a token whose scope and folder cover this."),
      make(
        "div",
        { class: "row" },
        claims.prefix ? link("To its folder", fragment(folderOfToken())) : null,
        button("Sign in with another", null, () => signedOut()),
      ),
    ];
  }
  if (error.status === 0) {
    const offline = !navigator.onLine;
    return [
      icon("again"),
      make("h2", {}, offline ? "You are offline" : "The server cannot be reached"),
      make("p", {}, offline
        ? "This goes on by itself once there is a connection again."
        : "It may be starting anew, or the network is down. This is tried again every few seconds."),
      again,
    ];
  }
  if (error.status === 503) {
    return [
      icon("again"),
      make("h2", {}, "The storage is out of reach"),
      make("p", {}, `The server says: ${error.message}`),
      make("p", {}, "Retrying automatically. If this persists, check the server log."),
      again,
    ];
  }
  return [
    icon("close"),
    make("h2", {}, "This did not work"),
    make("p", {}, `The server says: ${error.message}`),
    make("div", { class: "row" }, button("Try again", "again", tryAgain, { kind: "primary" }), link("To all images", "#/")),
  ];
}

let retrying = null;

function trouble(error) {
  if (error.status === 401 || !shelf) return;
  failure = error;
  showState();
  say(stateText() || error.message);
  if (error.status !== 0 && error.status !== 503) return;
  clearTimeout(retrying);
  retrying = setTimeout(tryAgain, (error.retryAfter || RETRIED_AFTER_S) * 1000);
}

async function tryAgain() {
  clearTimeout(retrying);
  if (!shelf || !failure) return;
  const { collection } = shelf;
  failure = null;
  await grid.retry();
  if (shelf?.collection === collection) showState();
}

addEventListener("online", tryAgain);

// The pictures -------------------------------------------------------------------------------------

const grid = new Grid(by("grid"), {
  open(at) {
    const described = shelf.describe(at);
    if (described.isFolder) go(fragment(described.key));
    else go(pictureFragment(described));
  },
  show: (image, described, shape, failed) => shelf.show(image, described, shape, failed),
  chosen: showChosen,
  remove: () => remove([...grid.selected]),
  trouble,
  grown: () => showState(),
  isCovered: () => viewer.isOpen,
});

const pictureFragment = ({ key, resource }) => (resource ? `#library/${key}` : fragment(key));

const viewer = new Viewer({
  shelf: () => shelf,
  shape: () => shapeFor(grid.shape?.width ?? 256, "contain"),
  moved(at) { go(pictureFragment(shelf.describe(at)), { replace: true }); },
  closed() {
    if (history.state?.inside) history.back();
    else go(place.view === "library" ? "#library" : folderFragment(place.folder, place.begins), { replace: true });
  },
});

async function showPicture({ view, picture }) {
  const { collection } = shelf;
  const at = collection.indexOf(picture);
  if (at >= 0) {
    viewer.show(shelf.describe(at), at);
    tellTitle();
    return;
  }
  if (view === "folder") {
    viewer.show({ key: picture, name: nameOf(picture), isFolder: false }, -1);
    tellTitle();
  }
  await find(collection, picture, view);
}

/** An address was opened: its neighbours are found page by page, while the picture shows. */
async function find(collection, picture, view) {
  try {
    while (collection.indexOf(picture) < 0 && !collection.complete) {
      await collection.more();
      if (shelf?.collection !== collection || place.picture !== picture) return;
    }
  } catch {
    return; // the grid says why
  }
  grid.measure();
  showState();
  const at = collection.indexOf(picture);
  if (at >= 0) {
    viewer.show(shelf.describe(at), at);
    tellTitle();
  } else if (view === "library") {
    toast("This resource is not in the library.", { failed: true });
    go("#library", { replace: true });
  }
}

function leaveViewer() {
  const { at } = viewer;
  viewer.close();
  focusOn(at);
}

/** A picture of the grid; where there is none, what says why. */
function focusOn(at) {
  if (at >= 0 && grid.length) grid.focus(at);
  else by("content").focus();
}

// Choosing many ------------------------------------------------------------------------------------

function showChosen() {
  const bar = by("chosen");
  const chosen = grid.selected.size;
  const hadFocus = bar.contains(document.activeElement);
  bar.hidden = chosen === 0;
  by("grid").classList.toggle("choosing", chosen > 0);
  if (!chosen) {
    bar.replaceChildren();
    if (hadFocus) grid.focus();
    return;
  }
  const told = `${chosen.toLocaleString()} chosen`;
  if (bar.childElementCount && !hadFocus) say(told);
  if (bar.childElementCount && bar.dataset.view === place?.view && bar.dataset.one === String(chosen === 1)) {
    bar.firstElementChild.textContent = told;
    return;
  }
  bar.dataset.view = place?.view;
  bar.dataset.one = String(chosen === 1);
  const inFolder = shelf instanceof FolderShelf;
  const paths = () => [...grid.selected];
  bar.replaceChildren(...[
    make("p", {}, told),
    inFolder && chosen === 1 ? button("Copy link", "link", () => copyLink(api, paths()[0])) : null,
    inFolder ? button("Download", "down", () => downloadChosen(paths())) : null,
    inFolder && may("media") && may("storage:delete") ? button("Keep", "keep", () => keep(paths())) : null,
    shelf.mayRemove ? button("Delete", "bin", () => remove(paths()), { kind: "danger" }) : null,
    button("Choose none", "close", () => grid.choosing.chooseNone(), { quiet: true }),
  ].filter(Boolean));
}

function downloadChosen(paths) {
  if (paths.length > MOST_DOWNLOADS) {
    toast(`A browser saves ${MOST_DOWNLOADS} at a time. For more, use: stillroom get`, { failed: true });
  } else download(api, paths);
}

async function keep(paths) {
  const answer = await ask(
    `Keep ${count(paths.length, "image")} in the library?`,
    [make("p", {}, "Each is copied to a place that never changes. Its place here is cleared later.")],
    [{ text: "Cancel", value: "" }, { text: "Keep", value: "keep", kind: "primary" }],
  );
  if (answer !== "keep") return;
  await keepAll(api, paths);
  visited.delete("library");
  grid.choosing.chooseNone();
}

async function remove(keys) {
  const from = shelf;
  if (!from.mayRemove) return;
  const { collection } = from;
  const nameOfKey = (key) => (from instanceof LibraryShelf ? from.describe(collection.indexOf(key)).name : key);
  const names = keys.slice(0, 5).map((key) => make("li", { dir: "auto" }, nameOfKey(key)));
  if (keys.length > 5) names.push(make("li", {}, `and ${(keys.length - 5).toLocaleString()} more`));
  const answer = await ask(
    `Delete ${count(keys.length, "image")}${from.where}?`,
    [make("ul", {}, ...names), make("p", {}, from.warning)],
    [{ text: "Cancel", value: "" }, { text: "Delete", value: "delete", kind: "primary danger" }],
  );
  if (answer !== "delete" || !shelf) return;
  const gone = await from.removeAll(keys, (done) => {
    by("told").textContent = `Deleting ${(done + 1).toLocaleString()} of ${keys.length.toLocaleString()}…`;
  });
  if (shelf) showState();
  if (!gone.length) return;
  const at = gone.reduce((first, key) => Math.min(first, collection.indexOf(key)), Infinity);
  collection.remove(gone);
  if (shelf?.collection !== collection) return;
  grid.refresh();
  showState();
  if (place.picture !== null && gone.includes(place.picture)) showNext(collection, at);
  else if (!viewer.isOpen) focusOn(at);
}

function showNext(collection, at) {
  const next = Math.min(at, collection.length - 1);
  if (next >= 0 && !collection.describe(next).isFolder) {
    go(pictureFragment(collection.describe(next)), { replace: true });
  } else viewer.hooks.closed();
}

// Uploading ----------------------------------------------------------------------------------------

const uploads = new Uploads({
  api: () => api,
  mostBytes: Number(document.documentElement.dataset.maxUploadBytes),
  saved(path) {
    pictures.forget(path);
    if (!(shelf?.collection instanceof Folder)) return;
    const replaced = shelf.collection.indexOf(path) >= 0;
    if (shelf.collection.add(path) || replaced) refreshSoon();
  },
});

let refreshing = null;

/** Many small files are saved in a second; the grid follows a few times in it. */
function refreshSoon() {
  refreshing ??= setTimeout(() => {
    refreshing = null;
    if (!shelf) return;
    by("grid").hidden = !shelf.length;
    grid.refresh();
    showState();
  }, 150);
}

const JUNK = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);

function upload(found) {
  if (!(shelf instanceof FolderShelf)) return;
  const { folder } = shelf.collection;
  uploads.add(found
    .filter(({ below }) => !JUNK.has(nameOf(below)))
    .map(({ file, below }) => ({ file, path: pathFor(folder, below) })));
}

by("upload").onclick = () => by("files").click();
for (const id of ["files", "folder"]) {
  by(id).onchange = (event) => {
    upload([...event.target.files].map((file) => ({ file, below: file.webkitRelativePath || file.name })));
    event.target.value = "";
  };
}

const isDropOfFiles = (event) => event.dataTransfer?.types.includes("Files");
const takesDrops = () => api && shelf instanceof FolderShelf && may("storage:write") && !viewer.isOpen;

addEventListener("dragover", (event) => {
  if (!isDropOfFiles(event)) return;
  event.preventDefault(); // a browser would open the file in place of the page
  event.dataTransfer.dropEffect = takesDrops() ? "copy" : "none";
  if (!takesDrops()) return;
  by("drop-told").textContent = `Drop to upload to ${nameOf(shelf.collection.folder) || "all images"}`;
  by("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) by("drop").hidden = true;
});
addEventListener("drop", async (event) => {
  if (!isDropOfFiles(event)) return;
  event.preventDefault();
  by("drop").hidden = true;
  if (!takesDrops()) return;
  try {
    upload(await filesOf(event.dataTransfer));
  } catch (error) {
    toast(`The folder cannot be read: ${error.message}`, { failed: true });
  }
});

// The bar ------------------------------------------------------------------------------------------

let typing = null;
by("begins").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    if (!shelf || place.view !== "folder") return;
    const begins = by("begins").value.normalize("NFC");
    if (begins !== place.begins) go(folderFragment(place.folder, begins), { replace: Boolean(place.begins) });
  }, 180);
});
by("begins").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "Enter") {
    event.preventDefault();
    grid.focus();
  }
});

const THEMES = ["", "dark", "light"];
const themeName = () => ({ "": "as the system", dark: "dark", light: "light" })[localStorage.getItem("stillroom.theme") ?? ""];
by("theme").onclick = () => {
  const now = THEMES.indexOf(localStorage.getItem("stillroom.theme") ?? "");
  const next = THEMES[(now + 1) % THEMES.length];
  localStorage.setItem("stillroom.theme", next);
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  say(`Colours: ${themeName()}`);
  by("theme").title = `Light or dark: ${themeName()}`;
};
by("theme").title = `Light or dark: ${themeName()}`;

const SIZES = ["roomy", "usual", "dense"];
by("density").onclick = () => {
  const next = SIZES[(SIZES.indexOf(grid.density) + 1) % SIZES.length];
  grid.setDensity(next);
  say(`Size of the pictures: ${next}`);
};

by("help-open").onclick = () => by("help").showModal();
by("help-close").onclick = () => by("help").close();
by("skip").onclick = () => {
  if (grid.length) grid.focus();
  else by("content").focus();
};
addEventListener("keydown", (event) => {
  if (!api || event.target.closest?.("input, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") by("help").showModal();
  else if (event.key === "/" && !by("finder").hidden) by("begins").focus();
  else return;
  event.preventDefault();
});

history.scrollRestoration = "manual";
const kept = sessionStorage.getItem(TOKEN);
if (kept) enter(kept);
else signedOut();
