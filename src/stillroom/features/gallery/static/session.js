// Who is signed in: the token is kept for this tab, or for this device if so ticked. What it says of itself is
// read here.

import { Api, Refused, claimsOf } from "./api.js";
import { HAS_OWN_LOGIN, by, hasFeature, make } from "./elements.js";

const TOKEN = "stillroom.token";
const EXPIRED = "token_expired"; // the server's word, since clocks differ
const SPENT = "sign_in_code_spent";
const LINK = "#sign-in="; // and the code of a link that works once
const KEPT_IN = [sessionStorage, localStorage];
const AROUND = /^[\s"']*(?:(?:Authorization:\s*)?Bearer\s+)?[\s"']*|[\s"']+$/gi; // what is pasted with a token
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
    /** @type {Claims} */
    this.claims = {};
    this.code = ""; // of the link that was opened
    by("token-help").replaceChildren(...(HAS_OWN_LOGIN
      ? ["Use the token of this application. Its operator can give you one."]
      : ["Get one on the server with ", make("code", {}, "stillroom token"), ", or from your administrator."]));
    by("sign-in-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      this.submit();
    });
    by("sign-out").onclick = () => {
      this.hooks.leaving();
      this.signOut();
    };
    addEventListener("hashchange", () => { if (location.hash.startsWith(LINK)) this.resume(); });
    addEventListener("storage", ({ key, oldValue, newValue }) => {
      if (key === TOKEN && newValue === null && oldValue === this.api?.token) this.signOut("You signed out in another tab.");
    });
  }

  /** Go on by the link that was opened or with the token that was kept, or ask for one. */
  resume() {
    this.code = location.hash.startsWith(LINK) ? location.hash.slice(LINK.length) : "";
    if (this.code) history.replaceState(null, "", location.pathname + location.search); // not to be kept or passed on
    const kept = this.code ? null : KEPT_IN.map((one) => one.getItem(TOKEN)).find(Boolean);
    if (kept) this.enter(kept);
    else {
      this.api = null; // what is kept stays, for a link that was used before
      this.signOut();
    }
  }

  /** True if the token has this scope, and the server a library for `media`. The server checks each request. */
  may(/** @type {string} */ scope) {
    if (scope === "media" && !hasFeature("library")) return false;
    const named = this.claims.scope;
    return typeof named !== "string" || named.split(" ").includes(scope);
  }

  get seesLibrary() { return this.may("media") && !this.claims.prefix; }

  /** The folder that the token is confined to, with its slash; "" without one. */
  get folder() {
    const prefix = typeof this.claims.prefix === "string" ? this.claims.prefix : "";
    return prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix;
  }

  /**
   * Work that is left out after this session has ended.
   * @param {() => unknown} work
   */
  during(work) {
    const { api } = this;
    return () => (this.api === api ? work() : null);
  }

  signOut(notice = "") {
    for (const one of KEPT_IN) if (one.getItem(TOKEN) === this.api?.token) one.removeItem(TOKEN);
    this.api = null;
    this.hooks.left();
    by("app").hidden = true;
    by("sign-in").hidden = false;
    by("sign-in-notice").textContent = notice;
    document.title = "Sign in – Stillroom";
    by("token").value = "";
    by("remember").checked = false;
    this.showWay();
  }

  /** Ask for a token, or only whether to use the link. */
  showWay() {
    /** @type {NodeListOf<HTMLElement>} */
    const parts = document.querySelectorAll("[data-way]");
    for (const one of parts) one.hidden = one.dataset.way !== (this.code ? "link" : "token");
    by("token").disabled = Boolean(this.code); // so that it is not required
    by(this.code ? "sign-in-go" : "token").focus();
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
    by("sign-in-go").disabled = true;
    by("sign-in-notice").textContent = "";
    try {
      if (this.code) await this.useLink();
      else await this.signIn(by("token").value.replace(AROUND, ""));
    } catch (/** @type {any} */ error) {
      by("sign-in-notice").textContent = error.message;
      by("token").select();
    } finally {
      by("sign-in-go").disabled = false;
    }
  }

  async useLink() {
    const body = { code: this.code, remember: by("remember").checked };
    try {
      const { token } = await new Api("", () => {}).post("sign-in", body);
      this.code = "";
      this.keep(token);
    } catch (/** @type {any} */ error) {
      if (error.code !== SPENT) throw error;
      this.resume(); // perhaps with a token that was kept
      throw new Refused(401, "This link was used before, or is more than ten minutes old. Sign in with a token.");
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
    this.keep(token);
  }

  /** @param {string} token */
  keep(token) {
    const isRemembered = by("remember").checked;
    KEPT_IN[Number(isRemembered)].setItem(TOKEN, token);
    if (isRemembered) sessionStorage.removeItem(TOKEN); // but this tab alone does not make the device forget
    this.enter(token);
  }

  /** @param {string} token */
  async enter(token) {
    const api = new Api(token, (from, refused) => this.unauthorized(from, refused));
    this.claims = claimsOf(token);
    if (HAS_OWN_LOGIN) {
      try {
        const { claims } = await api.post("batch", { targets: [] });
        this.claims = claims; // what the token itself says has another meaning in this application
      } catch { this.claims = {}; } // the first listing says what is wrong
    }
    this.api = api;
    by("sign-in").hidden = true;
    by("app").hidden = false;
    this.hooks.entered();
  }
}

/** @param {Claims} claims */
const momentOf = ({ exp }) => new Date(exp * 1000).toLocaleString();
