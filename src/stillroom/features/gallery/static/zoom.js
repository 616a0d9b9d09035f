// Looking into a picture: fitting it to the window, zooming, moving it, and swiping it away.

const CLOSEST = 16; // times the size that fits
const SWIPE = 60; // pixels

export class Zoom {
  /**
   * @param {HTMLElement} stage
   * @param {{ swiped: (step: number) => void, dismissed: () => void }} hooks
   */
  constructor(stage, hooks) {
    this.stage = stage;
    this.hooks = hooks;
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    /** @type {PointerEvent | undefined} */
    this.began = undefined;
    this.pinched = false;
    /** @type {HTMLElement | null} */
    this.picture = null;
    /** @type {{ width: number, height: number, isExact: boolean } | null} */
    this.natural = null;
    this.smallEdge = 0;
    this.width = 0;
    this.height = 0;
    this.actual = 1;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    new ResizeObserver(() => this.fit()).observe(stage);
    this.listen();
  }

  /** Another picture: its size is not known yet. */
  reset() { Object.assign(this, { scale: 1, x: 0, y: 0, natural: null }); }

  fit() {
    if (!this.natural || !this.picture) return;
    const { width, height, isExact } = this.natural;
    const box = this.stage.getBoundingClientRect();
    // Small pictures are not blown up, but for those whose size is not known yet.
    let ratio = Math.min(box.width / width, box.height / height);
    if (isExact && Math.max(width, height) < this.smallEdge) ratio = Math.min(ratio, 1);
    this.width = width * ratio;
    this.height = height * ratio;
    this.actual = isExact ? 1 / ratio / devicePixelRatio : 1;
    Object.assign(this.picture.style, { width: `${this.width}px`, height: `${this.height}px` });
    this.turn();
  }

  turn() {
    if (!this.picture || !this.natural) return;
    const box = this.stage.getBoundingClientRect();
    const [beyondX, beyondY] = [
      Math.max(0, (this.width * this.scale - box.width) / 2),
      Math.max(0, (this.height * this.scale - box.height) / 2),
    ];
    this.x = Math.max(-beyondX, Math.min(beyondX, this.x));
    this.y = Math.max(-beyondY, Math.min(beyondY, this.y));
    this.picture.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("close", this.scale > 1);
    this.picture.classList.toggle("pixels", this.scale > this.actual * 3);
  }

  /** @type {(factor: number, clientX?: number, clientY?: number) => void} */
  by(factor, clientX, clientY) { this.to(this.scale * factor, clientX, clientY); }

  /**
   * So many times the size that fits; the point at `clientX`, `clientY` stays where it is.
   * @type {(scale: number, clientX?: number, clientY?: number) => void}
   */
  to(scale, clientX, clientY) {
    if (!this.natural) return;
    const box = this.stage.getBoundingClientRect();
    const wanted = Math.max(1, Math.min(Math.max(CLOSEST, this.actual * 8), scale));
    const [fromX, fromY] = clientX === undefined || clientY === undefined
      ? [0, 0]
      : [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    this.x = fromX - (fromX - this.x) * (wanted / this.scale);
    this.y = fromY - (fromY - this.y) * (wanted / this.scale);
    this.scale = wanted;
    this.turn();
  }

  listen() {
    const { stage } = this;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      const closer = this.actual > 1.2 ? this.actual : 2.5;
      this.to(this.scale > 1 ? 1 : closer, event.clientX, event.clientY);
    });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || (event.target instanceof Element && event.target.closest("button, video"))) return;
      stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      this.began = event;
    });
    stage.addEventListener("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      this.pointers.set(event.pointerId, event);
      if (this.pointers.size === 2) this.pinch(before, event);
      else if (this.scale > 1) {
        this.x += event.clientX - before.clientX;
        this.y += event.clientY - before.clientY;
        this.turn();
      }
    });
    stage.addEventListener("pointerup", (event) => this.lifted(event));
    stage.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
  }

  /** @param {PointerEvent} event */
  lifted(event) {
    const alone = this.pointers.size === 1;
    if (!this.pointers.delete(event.pointerId) || !alone || !this.began) return;
    const [x, y] = [event.clientX - this.began.clientX, event.clientY - this.began.clientY];
    const isSwipe = event.pointerType !== "mouse" && this.scale === 1 && !this.pinched;
    if (isSwipe && Math.abs(x) > SWIPE && Math.abs(x) > Math.abs(y)) this.hooks.swiped(x < 0 ? 1 : -1);
    if (isSwipe && y > 2 * SWIPE && y > 2 * Math.abs(x)) this.hooks.dismissed();
    this.pinched = false;
  }

  /**
   * @param {PointerEvent} before
   * @param {PointerEvent} now
   */
  pinch(before, now) {
    this.pinched = true;
    const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== now.pointerId);
    if (!other) return;
    const apart = (/** @type {PointerEvent} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const factor = apart(now) / apart(before);
    this.by(factor, (now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2);
  }
}
