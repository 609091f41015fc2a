import "uplot/dist/uPlot.min.css";
import "./pages.css";
import { fans } from "./fans";
import { clock, live, type Happened } from "./live";

const MOST_EVENTS = 50;
const DRAFT = "draft";
const TOLD: Record<string, string> = {
  "vm-started": "it was started",
  "vm-stopped": "it was stopped",
  "vm-altered": "something was set for it",
  "vm-restored": "it was put back as it was",
};

function themes(): void {
  const button = document.querySelector<HTMLButtonElement>("#theme");
  if (button === null) return;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const now = (): string => document.documentElement.dataset["theme"] ?? (dark.matches ? "dark" : "light");
  const name = (): void => {
    button.textContent = now() === "dark" ? "Light" : "Dark";
  };
  button.hidden = false;
  name();
  dark.addEventListener("change", name);
  button.addEventListener("click", () => {
    const other = now() === "dark" ? "light" : "dark";
    document.documentElement.dataset["theme"] = other;
    localStorage.setItem("theme", other);
    name();
    document.dispatchEvent(new Event("themechange"));
  });
}

/** Events of the VM that the page is about, the newest first. */
function told(event: Happened): void {
  const list = document.querySelector<HTMLElement>("#events");
  const text = TOLD[event.kind];
  if (list === null || text === undefined || event.data["vm"] !== list.dataset["vm"]) return;
  const line = document.createElement("li");
  line.textContent = `${clock()}: ${text}`;
  list.prepend(line);
  while (list.childElementCount > MOST_EVENTS) list.lastElementChild?.remove();
}

/** A draft is kept in this browser until it is in force, whatever becomes of the page. */
function drafts(): void {
  const form = document.querySelector<HTMLFormElement>("#draft-form");
  const text = form?.querySelector<HTMLTextAreaElement>("textarea");
  const note = form?.querySelector<HTMLElement>("#kept");
  if (!form || !text || !note || text.readOnly) return;
  if (new URLSearchParams(location.search).get("done") === "applied") localStorage.removeItem(DRAFT);
  const kept = localStorage.getItem(DRAFT);
  note.hidden = kept === null || kept === text.value;
  note.querySelector("button")?.addEventListener("click", () => {
    text.value = kept ?? "";
    note.hidden = true;
    text.focus();
  });
  text.addEventListener("input", () => localStorage.setItem(DRAFT, text.value));
}

/** What somebody has written is not for who comes after them. */
function signingOut(): void {
  document.querySelector('form[action="/logout"]')?.addEventListener("submit", () => localStorage.removeItem(DRAFT));
}

themes();
drafts();
signingOut();
const draw = fans();
live(told, draw);
document.querySelector<HTMLElement>("#said")?.focus();
