// Who is signed in: the token lives in this tab's session storage, and what it says of itself is read here.

import { Api, Refused, claimsOf } from "./api.js";
import { by } from "./elements.js";

const TOKEN = "stillroom.token";
const EXPIRED = "token_expired"; // the server's word, since clocks differ
const INVALID = "Invalid or expired token.";

export class Session {
  /**
   * `entered()` is called after signing in, `leaving()` before signing out by hand, `ended(expired)` before the
   * server's refusal of the token signs out, `left()` whenever signed out.
   * @param {{ entered: () => void, leaving: () => void, ended: (expired: boolean) => void, left: () => void }} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Api | null} */
    this.api = null;
    /** @type {import("./api.js").Claims} */
    this.claims = {};
    by("sign-in-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      this.submit();
    });
    by("sign-out").onclick = () => {
      this.hooks.leaving();
      this.signOut();
    };
  }

  /** Go on with the token of this tab, or ask for one. */
  resume() {
    const kept = sessionStorage.getItem(TOKEN);
    if (kept) this.enter(kept);
    else this.signOut();
  }

  /** Whether the token names this right; the server has the last word. */
  may(/** @type {string} */ scope) {
    const named = this.claims.scope;
    return typeof named !== "string" || named.split(" ").includes(scope);
  }

  /** The folder that the token is confined to, with its slash; "" without one. */
  get folder() {
    const prefix = typeof this.claims.prefix === "string" ? this.claims.prefix : "";
    return prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix;
  }

  signOut(notice = "") {
    sessionStorage.removeItem(TOKEN);
    this.api = null;
    this.hooks.left();
    by("app").hidden = true;
    by("sign-in").hidden = false;
    by("sign-in-notice").textContent = notice;
    document.title = "Sign in – Stillroom";
    by("token").value = "";
    by("token").focus();
  }

  /**
   * @param {Api} from
   * @param {Refused} refused
   */
  unauthorized(from, { code }) {
    if (from !== this.api) return; // an answer to a session that has ended
    const expired = code === EXPIRED;
    this.hooks.ended(expired);
    this.signOut(expired
      ? `Your token expired on ${momentOf(this.claims)}. Sign in with a new one to continue.`
      : `${INVALID} Sign in with a new one to continue.`);
  }

  async submit() {
    const token = by("token").value.trim();
    by("sign-in-go").disabled = true;
    by("sign-in-notice").textContent = "";
    try {
      await this.signIn(token);
    } catch (/** @type {any} */ error) {
      by("sign-in-notice").textContent = error.message;
      by("token").select();
    } finally {
      by("sign-in-go").disabled = false;
    }
  }

  /** @param {string} token */
  async signIn(token) {
    const candidate = new Api(token, () => {});
    try {
      await candidate.ask(candidate.listing({ delimiter: "/", limit: 1 }));
    } catch (/** @type {any} */ error) {
      if (error.status === 401) {
        throw new Refused(401, error.code === EXPIRED
          ? `This token expired on ${momentOf(claimsOf(token))}. Get a new one.`
          : `${INVALID} Check that you copied all of it.`);
      }
      if (error.status !== 403) throw error; // it may be good for other things
    }
    sessionStorage.setItem(TOKEN, token);
    this.enter(token);
  }

  /** @param {string} token */
  enter(token) {
    this.api = new Api(token, (from, refused) => this.unauthorized(from, refused));
    this.claims = claimsOf(token);
    by("sign-in").hidden = true;
    by("app").hidden = false;
    this.hooks.entered();
  }
}

/** @param {import("./api.js").Claims} claims */
const momentOf = ({ exp }) => new Date(exp * 1000).toLocaleString();
