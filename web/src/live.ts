// Pages that are live: when something has happened, the page is asked for again, and what is different in it is put
// in place. Whatever has the focus, is opened, or is scrolled stays as it is.

const WAIT_MS = 1000;
const POLL_MS = 2000;
const AGAIN_MS = 5000;

export type Happened = { kind: string; data: Record<string, unknown> };
type Listener = (event: Happened) => void;

const KINDS = ["reset", "cycle", "mode", "fault", "contact", "vm-started", "vm-stopped", "vm-altered", "vm-restored"];

/** Begin to listen; `heard` is told of every event, `refreshed` after the page was brought up to date. */
export function live(heard: Listener, refreshed: () => void): void {
  const sign = document.querySelector<HTMLElement>("#live");
  if (sign === null) return; // nobody is signed in
  let waiting = false;
  let again = false;

  const refresh = async (): Promise<void> => {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    try {
      if (!document.hidden && (await bringUpToDate(sign))) refreshed();
    } catch {
      // the service is away; its next event, or the stream that begins anew, tries again
    }
    window.setTimeout(() => {
      waiting = false;
      if (again) {
        again = false;
        void refresh();
      }
    }, WAIT_MS);
  };

  let events: EventSource;
  let wasAway = false;
  const listen = (): void => {
    events = new EventSource("/api/v1/events");
    events.addEventListener("open", () => {
      say(sign, "live", true);
      if (wasAway) void refresh();
      wasAway = false;
    });
    events.addEventListener("error", () => {
      if (!wasAway) say(sign, `not live since ${new Date().toLocaleTimeString()}`, false);
      wasAway = true;
      if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
      void refresh(); // which says so if the session has ended
      window.setTimeout(listen, AGAIN_MS);
    });
    for (const kind of KINDS) {
      events.addEventListener(kind, (event: MessageEvent<string>) => {
        heard({ kind, data: JSON.parse(event.data) as Record<string, unknown> });
        if (kind !== "reset") void refresh();
      });
    }
  };
  listen();
  window.addEventListener("pagehide", () => events.close());
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) listen(); // back from another page, as it was
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void refresh();
  });
  const poll = (): void => {
    if (document.querySelector("[data-poll]") === null) return;
    void refresh().finally(() => window.setTimeout(poll, POLL_MS));
  };
  poll();
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

async function bringUpToDate(sign: HTMLElement): Promise<boolean> {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    sayWhereToSignIn(sign);
    return false;
  }
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const region of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const other = fresh.getElementById(region.id);
    if (other !== null) replace(region, other);
  }
  const mark = fresh.querySelector<HTMLMetaElement>('meta[name="csrf"]')?.content;
  if (mark !== undefined) {
    for (const field of document.querySelectorAll<HTMLInputElement>('input[name="csrf"]')) field.value = mark;
  }
  return true;
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
