// Charts of what a VM demanded and is expected to demand: a fan of quantiles that opens from its newest samples on.

import uPlot from "uplot";

type Column = (number | null)[];
type History = { resource: string; at: number[]; mean: Column; peak: Column; limit: Column };
type Target = { statistic: "mean" | "peak"; steps: number; quantiles: Column };
type Forecast = { resource: string; issued_at: number; step_seconds: number; levels: number[]; targets: Target[] };
type Known = { history: History[]; forecasts: Forecast[]; problem: string };

const NAMES: Record<string, string> = {
  cpu: "CPU",
  memory: "memory",
  disk_read: "disk reads",
  disk_write: "disk writes",
  net_rx: "network in",
  net_tx: "network out",
};
const BANDS: [number, number][] = [
  [0.5, 0.9],
  [0.9, 0.95],
  [0.95, 0.99],
];
const LEVELS = [...new Set(BANDS.flat())].sort((a, b) => a - b);
const MOST_STEPS = 2_100; // a week of 5 minutes
const BINARY = Array.from({ length: 50 }, (_, k) => 2 ** k);
const DAYS = "{YYYY}-{MM}-{DD}";

/** Draw all fans of the page; the function that comes back draws what is known then. */
export function fans(): () => void {
  const place = document.querySelector<HTMLElement>("#fans");
  const spans = document.querySelector<HTMLElement>("#spans");
  if (place === null || spans === null) return () => undefined;
  spans.hidden = false;
  const charts = new Map<string, uPlot>();
  let asked = 0;

  async function draw(anew: boolean): Promise<void> {
    const turn = ++asked;
    const span = Number(spans!.querySelector<HTMLInputElement>("input:checked")?.value ?? 86_400);
    const found = await known(place!, span);
    if (turn !== asked) return; // another has begun since
    tell(place!, found.problem);
    const names = new Set([...found.history, ...found.forecasts].map((each) => each.resource));
    for (const name of Object.keys(NAMES).filter((each) => names.has(each))) {
      const data = table(
        found.history.find((each) => each.resource === name),
        found.forecasts.find((each) => each.resource === name),
      );
      const old = charts.get(name);
      if (old !== undefined && !anew) {
        old.setData(data, !isZoomed(old));
        continue;
      }
      old?.destroy();
      charts.set(name, chart(figure(place!, name), name, data));
    }
  }
  const anew = (): void => void draw(true);
  spans.addEventListener("change", anew);
  document.addEventListener("themechange", anew);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
  new ResizeObserver(() => {
    for (const each of charts.values()) each.setSize({ width: widthOf(each.root), height: each.height });
  }).observe(place);
  anew();
  return () => void draw(false);
}

/** What is known of a VM; what could not be had is empty, and the problem says why. */
async function known(place: HTMLElement, span: number): Promise<Known> {
  const vm = `/api/v1/vms/${encodeURIComponent(place.dataset["vm"] ?? "")}`;
  const step = Number(place.dataset["step"]);
  const problems: string[] = [];
  async function get<T>(address: string): Promise<T[]> {
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (answer.ok) return (await answer.json()) as T[];
      problems.push(((await answer.json()) as { detail?: string }).detail ?? `status ${answer.status}`);
    } catch {
      problems.push("the service does not answer");
    }
    return [];
  }
  const forecasts = await get<Forecast>(`${vm}/forecasts`);
  const until = Math.max(Number(place.dataset["until"]), ...forecasts.map((each) => each.issued_at + each.step_seconds));
  const resolution = span / step <= MOST_STEPS ? "raw" : span / 300 <= MOST_STEPS ? "5min" : "1h";
  const since = Math.max(0, until - span);
  const history = await get<History>(`${vm}/history?since=${since}&until=${until}&resolution=${resolution}`);
  return { history, forecasts, problem: problems.join("; ") };
}

function tell(place: HTMLElement, problem: string): void {
  let note = place.parentElement?.querySelector<HTMLElement>("#fans-problem") ?? null;
  if (note === null) {
    note = document.createElement("p");
    note.id = "fans-problem";
    note.className = "note";
    place.before(note);
  }
  note.hidden = problem === "";
  note.textContent = problem;
}

/** The figure of a resource, which is made when it is not there yet. */
function figure(place: HTMLElement, name: string): HTMLElement {
  const old = place.querySelector<HTMLElement>(`[data-fan="${name}"] .plot`);
  if (old !== null) return old;
  const made = document.createElement("figure");
  made.className = "chart";
  made.dataset["fan"] = name;
  const caption = document.createElement("figcaption");
  caption.textContent = NAMES[name] ?? name;
  const plot = document.createElement("div");
  plot.className = "plot";
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `What it demanded and is expected to demand of ${NAMES[name] ?? name}, as a chart`);
  made.append(caption, plot);
  place.append(made);
  return plot;
}

/** Columns for a chart: instants, mean, peak, limit, and a column for each level of the fan. */
export function table(history: History | undefined, forecast: Forecast | undefined): uPlot.AlignedData {
  const first = Math.max(history?.mean.findIndex((value) => value !== null) ?? 0, 0); // before that it was not there
  const at = history?.at.slice(first) ?? [];
  const mean = history?.mean.slice(first) ?? [];
  const peak = history?.peak.slice(first) ?? [];
  const limit = history?.limit.slice(first) ?? [];
  const last = mean.findLastIndex((value) => value !== null);
  const ahead = forecast === undefined ? [] : curve(forecast).filter((each) => each.at > (at.at(-1) ?? 0));
  const past = at.length;
  const ceiling = limit.findLast((value) => value !== null) ?? null;
  for (const each of ahead) {
    at.push(each.at);
    mean.push(null);
    peak.push(null);
    limit.push(ceiling);
  }
  const fan = LEVELS.map((level) => {
    const column: Column = new Array<number | null>(past).fill(null);
    if (last >= 0 && ahead.length) column[last] = mean[last] ?? null; // it opens from what was seen last
    return column.concat(ahead.map((each) => atLevel(each.quantiles, forecast?.levels ?? [], level)));
  });
  return [at, mean, peak, limit, ...fan] as uPlot.AlignedData;
}

/** A forecast as a curve: the mean of the next interval, then the peak until each horizon, at their intervals' starts. */
function curve(forecast: Forecast): { at: number; quantiles: Column }[] {
  return forecast.targets
    .filter((each) => each.quantiles.some((value) => value !== null))
    .sort((a, b) => a.steps - b.steps || a.statistic.localeCompare(b.statistic))
    .filter((each, k, all) => k === 0 || each.steps > (all[k - 1]?.steps ?? 0))
    .map((each) => ({ at: forecast.issued_at + each.steps * forecast.step_seconds, quantiles: each.quantiles }));
}

function atLevel(quantiles: Column, levels: number[], wanted: number): number | null {
  let best = 0;
  levels.forEach((level, k) => {
    if (Math.abs(level - wanted) < Math.abs((levels[best] ?? 0) - wanted)) best = k;
  });
  return quantiles[best] ?? null;
}

function chart(plot: HTMLElement, name: string, data: uPlot.AlignedData): uPlot {
  const instants: uPlot.Axis.Values = [
    [86_400, DAYS, null, null, null, null, null, null, 1],
    [60, "{HH}:{mm}", `\n${DAYS}`, null, `\n${DAYS}`, null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", `\n${DAYS}`, null, `\n${DAYS}`, null, null, null, 1],
  ];
  const axis = { stroke: ink("--faint"), grid: { stroke: ink("--rule"), width: 1 }, ticks: { stroke: ink("--rule") } };
  const amount = (value: number): string => words(value, name);
  const line = (label: string, stroke: string, more: uPlot.Series = {}): uPlot.Series => ({
    label,
    stroke,
    width: 1.5,
    points: { show: false },
    value: (_: uPlot, value: number | null) => (value === null ? "–" : amount(value)),
    ...more,
  });
  const ahead = LEVELS.map((level) =>
    line(`P${+(level * 100).toFixed(1)}`, ink("--fan"), { width: level === 0.5 ? 1.5 : 0.5, spanGaps: true }),
  );
  return new uPlot(
    {
      width: widthOf(plot),
      height: 260,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      series: [
        { label: "time", value: `${DAYS} {HH}:{mm}:{ss}` },
        line("demand", ink("--used"), { points: { size: 5 } }), // which are shown where there are few
        line("peak", ink("--used"), { width: 0.5 }),
        line("limit", ink("--faint"), { width: 1, dash: [6, 4] }),
        ...ahead,
      ],
      bands: BANDS.map(([low, high], k) => ({
        series: [4 + LEVELS.indexOf(high), 4 + LEVELS.indexOf(low)] as [number, number],
        fill: ink(`--fan-${k + 1}`),
      })),
      axes: [
        { ...axis, values: instants },
        {
          ...axis,
          size: 80,
          values: (_: uPlot, values: number[]) => values.map(amount),
          ...(name === "cpu" ? {} : { incrs: BINARY }),
        },
      ],
      scales: { y: { range: (_: uPlot, _low: number, high: number) => [0, (high || 1) * 1.05] } },
      cursor: { drag: { x: true, y: false } },
    },
    data,
    plot,
  );
}

/** Whether somebody looks at a part; twice clicked, all is there again. */
function isZoomed(chart: uPlot): boolean {
  const [at] = chart.data;
  const { min, max } = chart.scales["x"] ?? {};
  return at.length > 1 && min != null && max != null && (min > (at[0] ?? 0) || max < (at.at(-1) ?? 0));
}

/** An amount as the tables write it. */
export function words(value: number, resource: string): string {
  const three = (number: number): string =>
    Math.abs(number) >= 1000 ? number.toFixed(0) : String(Number(number.toPrecision(3)));
  if (resource === "cpu") return three(value);
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let power = 0;
  while (Math.abs(value) >= 1024 && power < prefixes.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${three(value)}${prefixes[power]}${power ? "i" : ""}${resource === "memory" ? "B" : "B/s"}`;
}

function widthOf(element: HTMLElement): number {
  return Math.max(280, (element.closest("figure") ?? element).clientWidth);
}

function ink(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
