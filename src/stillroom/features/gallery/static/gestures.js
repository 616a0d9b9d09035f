// What a mouse, keys and fingers do in the grid.

const HELD_MS = 450;
const STILL = 10; // pixels

export class Gestures {
  /**
   * @param {Grid} grid
   * @param {import("./grid.js").Hooks} hooks
   */
  constructor(grid, hooks) {
    this.grid = grid;
    this.hooks = hooks;
    this.choosing = grid.choosing;
    this.heldOpen = false;
    this.isPressed = false;
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      addEventListener(kind, (event) => { this.isPressed = /** @type {PointerEvent} */ (event).buttons > 0; }, true);
    }
    grid.host.addEventListener("click", (event) => this.clicked(event));
    grid.host.addEventListener("dblclick", (event) => event.preventDefault());
    grid.host.addEventListener("keydown", (event) => this.pressed(event));
    addEventListener("close", ({ target }) => { // the cell that had the focus may have been drawn anew behind it
      const { activeElement, body } = document;
      if (activeElement === body || (target instanceof Element && target.contains(activeElement))) {
        grid.cells.get(grid.current)?.element.focus({ preventScroll: true });
      }
    }, true);
    addEventListener("keydown", (event) => { // the page was just loaded, or a key comes just before that handler
      if (event.target !== document.body || document.querySelector("dialog[open]")) return;
      if (event.key === "Delete") this.pressed(event);
      if (!event.key.startsWith("Arrow") || event.altKey || event.ctrlKey || event.metaKey || !grid.length) return;
      event.preventDefault();
      grid.focus(Math.max(grid.current, grid.firstVisible()));
    });
    this.watchTouches();
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const at = this.grid.indexOf(event.target);
    if (at < 0) return;
    this.hooks.follow();
    event.preventDefault(); // a middle click comes as `auxclick`, and the browser opens a tab
    if (this.heldOpen) { this.heldOpen = false; return; } // the end of a long touch
    const onMark = event.target instanceof Element && event.target.closest(".mark") !== null;
    const toggles = onMark || event.ctrlKey || event.metaKey || this.choosing.selected.size > 0;
    if (event.shiftKey) this.choosing.chooseTo(at);
    else if (toggles) this.choosing.toggle(at);
    else this.hooks.open(at);
    if (!this.hooks.isCovered()) this.grid.focus(at);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    this.hooks.follow();
    const at = this.grid.current;
    const page = Math.max(1, Math.floor(innerHeight / this.grid.step) - 1) * this.grid.columns;
    /** @type {Record<string, number>} */
    const moves = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.grid.columns, ArrowDown: this.grid.columns,
      PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity,
    };
    if (event.altKey) return;
    if (event.key in moves) {
      const wanted = at + moves[event.key];
      const target = Math.max(0, Math.min(wanted, this.grid.length - 1));
      if (event.shiftKey) this.choosing.chooseTo(target);
      else this.choosing.anchor = target;
      this.grid.focus(target);
    } else if (event.key === "Enter") this.hooks.open(at);
    else if (event.key === " ") this.choosing.toggle(at);
    else if (event.key === "Escape" && this.choosing.selected.size) this.choosing.chooseNone();
    else if (event.key === "Delete" && this.choosing.selected.size) this.hooks.remove();
    else return;
    event.preventDefault();
  }

  /** A finger that stays chooses, as on a phone's own photos. */
  watchTouches() {
    const { host } = this.grid;
    /** @type {number | undefined} */
    let timer;
    /** @type {PointerEvent | undefined} */
    let began;
    const stop = () => clearTimeout(timer);
    host.addEventListener("pointerdown", (event) => {
      const at = () => this.grid.indexOf(event.target);
      if (event.pointerType === "mouse" || at() < 0) return;
      this.heldOpen = false;
      began = event;
      timer = setTimeout(() => {
        this.heldOpen = true;
        if (at() >= 0) this.choosing.toggle(at());
      }, HELD_MS);
    });
    host.addEventListener("pointerup", stop);
    host.addEventListener("pointercancel", stop);
    host.addEventListener("pointermove", (event) => {
      if (began && Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > STILL) stop();
    });
    host.addEventListener("contextmenu", (event) => {
      if (this.heldOpen) event.preventDefault();
    });
  }
}
