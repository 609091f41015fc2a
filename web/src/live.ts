// Pages that are live: when something has happened, the page is asked for again, and what is different in it is put
// in place. Whatever has the focus, is opened, or is scrolled stays as it is.

const WAIT_MS = 1_000;
const POLL_MS = 2_000;
const AGAIN_MS = 5_000;
const LONGEST_MS = 30_000; // without an event: the daemon may be away

export type Happened = { kind: string; data: Record<string, unknown> };
type Listener = (event: Happened) => void;

const KINDS = ["reset", "cycle", "mode", "fault", "contact", "vm-started", "vm-stopped", "vm-altered", "vm-restored"];

/** Begin to listen; `heard` is told of every event, `refreshed` after the page was brought up to date. */
export function live(heard: Listener, refreshed: () => void): void {
  const found = document.querySelector<HTMLElement>("#live");
  if (found === null) return; // nobody is signed in
  const sign: HTMLElement = found;
  let waiting = false;
  let again = false;
  let events: EventSource | null = null;

  async function refresh(): Promise<void> {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    if (!document.hidden && (await bringUpToDate(sign))) {
      refreshed();
      if (events?.readyState === EventSource.OPEN) say(sign, "live", true);
    }
    window.setTimeout(() => {
      waiting = false;
      if (again) {
        again = false;
        void refresh();
      }
    }, WAIT_MS);
  }

  /** Only while the page is seen: a browser has six connections to a host for all of its pages. */
  function listen(): void {
    if (document.hidden || events !== null) return;
    const opened = new EventSource("/api/v1/events");
    events = opened;
    let wasAway = false;
    opened.addEventListener("open", () => {
      say(sign, "live", true);
      if (wasAway) void refresh();
      wasAway = false;
    });
    opened.addEventListener("error", () => {
      if (!wasAway) say(sign, `not live since ${clock()}`, false);
      wasAway = true;
      if (opened.readyState === EventSource.CLOSED) {
        events = null;
        window.setTimeout(() => void comeBack(), WAIT_MS);
      }
    });
    for (const kind of KINDS) {
      opened.addEventListener(kind, (event: MessageEvent<string>) => {
        heard({ kind, data: JSON.parse(event.data) as Record<string, unknown> });
        if (kind !== "reset") void refresh();
      });
    }
  }

  function rest(): void {
    events?.close();
    events = null;
  }

  /** The stream was refused: not again before the page itself is given. */
  async function comeBack(): Promise<void> {
    if (events !== null || document.hidden) return;
    if (await bringUpToDate(sign)) listen();
    else window.setTimeout(() => void comeBack(), AGAIN_MS);
  }

  function poll(): void {
    if (document.querySelector("[data-poll]") !== null) void refresh();
  }

  listen();
  window.setInterval(poll, POLL_MS);
  window.setInterval(() => void refresh(), LONGEST_MS);
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", listen); // also back from another page, as it was
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) rest();
    else void comeBack();
  });
}

/** The time of day as the pages tell it. */
export function clock(): string {
  return `${new Date().toISOString().slice(11, 19)} UTC`;
}

function say(sign: HTMLElement, text: string, well: boolean): void {
  if (sign.textContent !== text) sign.textContent = text;
  sign.classList.toggle("away", !well);
}

/** Whoever writes something must not lose it when their session ends: they sign in beside it, and go on. */
function sayWhereToSignIn(sign: HTMLElement): void {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.target = "_blank";
  link.textContent = "signed out: sign in";
  if (sign.textContent !== link.textContent) sign.replaceChildren(link);
  sign.classList.add("away");
}

/** Ask for the page again, and put in place what is different; whether it was given. */
async function bringUpToDate(sign: HTMLElement): Promise<boolean> {
  let answer: Response;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  } catch {
    if (!sign.classList.contains("away")) say(sign, `not live since ${clock()}`, false);
    return false;
  }
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    sayWhereToSignIn(sign);
    return false;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) {
    const why = fresh.querySelector("main .note")?.textContent?.trim() ?? `status ${answer.status}`;
    if (!sign.classList.contains("away")) say(sign, `not live since ${clock()}: ${why}`, false);
    return false;
  }
  for (const region of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const other = fresh.getElementById(region.id);
    if (other !== null) keepingFocus(() => replace(region, other));
  }
  const mark = fresh.querySelector<HTMLMetaElement>('meta[name="csrf"]')?.content;
  if (mark !== undefined) {
    for (const field of document.querySelectorAll<HTMLInputElement>('input[name="csrf"]')) field.value = mark;
  }
  return true;
}

/** Do something; what has the focus and is moved by it gets it back. */
function keepingFocus(change: () => void): void {
  const focused = document.activeElement;
  change();
  if (focused instanceof HTMLElement && focused.isConnected && document.activeElement !== focused) {
    focused.focus({ preventScroll: true });
  }
}

/** Put in place what is different, part by part, so that what somebody works with is not torn away from them. */
export function replace(region: Element, other: Element): void {
  if (region.isEqualNode(other)) return;
  for (const { name } of [...region.attributes]) {
    if (!other.hasAttribute(name) && name !== "open") region.removeAttribute(name);
  }
  for (const { name, value } of [...other.attributes]) {
    if (name !== "open" && region.getAttribute(name) !== value) region.setAttribute(name, value);
  }
  if (other.firstElementChild?.hasAttribute("data-key")) byKey(region, other);
  else byPlace(region, other);
}

function byPlace(region: Element, other: Element): void {
  const mine = [...region.childNodes];
  const theirs = [...other.childNodes];
  theirs.forEach((node, k) => {
    const old = mine[k];
    if (old === undefined) region.append(document.importNode(node, true));
    else if (old instanceof Element && node instanceof Element && old.tagName === node.tagName) replace(old, node);
    else if (!old.isEqualNode(node)) old.replaceWith(document.importNode(node, true));
  });
  for (const old of mine.slice(theirs.length)) old.remove();
}

/** Rows are of something: each stays the row of what it is of, wherever it stands now. */
function byKey(region: Element, other: Element): void {
  const mine = new Map([...region.children].map((row) => [row.getAttribute("data-key"), row]));
  let place: Element | null = region.firstElementChild;
  for (const row of [...other.children]) {
    const key = row.getAttribute("data-key");
    const old = mine.get(key) ?? document.importNode(row, true);
    if (mine.delete(key)) replace(old, row);
    if (old === place) place = place.nextElementSibling;
    else region.insertBefore(old, place);
  }
  for (const gone of mine.values()) gone.remove();
}
