import "uplot/dist/uPlot.min.css";
import "./pages.css";
import { fans } from "./fans";
import { live, type Happened } from "./live";

const MOST_EVENTS = 50;
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
  line.textContent = `${new Date().toLocaleTimeString()}: ${text}`;
  list.prepend(line);
  while (list.childElementCount > MOST_EVENTS) list.lastElementChild?.remove();
}

/** Whoever has written a draft is asked before they leave it. */
function drafts(): void {
  const form = document.querySelector<HTMLFormElement>("#draft-form");
  const text = form?.querySelector<HTMLTextAreaElement>("textarea");
  if (!form || !text || text.readOnly) return;
  let sent = false;
  form.addEventListener("submit", () => {
    sent = true;
  });
  window.addEventListener("beforeunload", (event) => {
    const changed = text.value !== text.defaultValue;
    if (changed && !sent) event.preventDefault();
  });
}

themes();
drafts();
const draw = fans();
live(told, draw);
document.querySelector<HTMLElement>("#said")?.focus();
