// Charts of what a VM demanded and is expected to demand: a fan of quantiles that opens from now on.

import uPlot from "uplot";

type History = { resource: string; at: number[]; mean: (number | null)[]; peak: (number | null)[] };
type Target = { statistic: "mean" | "peak"; steps: number; quantiles: (number | null)[] };
type Forecast = { resource: string; issued_at: number; step_seconds: number; levels: number[]; targets: Target[] };
type Table = { data: uPlot.AlignedData; bands: uPlot.Band[]; series: uPlot.Series[] };

const BANDS: [number, number][] = [
  [0.5, 0.9],
  [0.9, 0.95],
  [0.95, 0.99],
];
const BINARY = Array.from({ length: 50 }, (_, k) => 2 ** k);
const COARSEST_RAW_STEPS = 2000;

/** Draw all fans of the page; the function that comes back draws them anew with what is known then. */
export function fans(): () => void {
  const place = document.querySelector<HTMLElement>("#fans");
  const spans = document.querySelector<HTMLElement>("#spans");
  if (place === null || spans === null) return () => undefined;
  spans.hidden = false;
  const charts = new Map<HTMLElement, uPlot>();
  let asked = 0;

  const draw = async (): Promise<void> => {
    const turn = ++asked;
    const span = Number(spans.querySelector<HTMLInputElement>("input:checked")?.value ?? 86400);
    const found = await known(place, span);
    if (turn !== asked || found === null) return; // another has begun since
    for (const figure of place.querySelectorAll<HTMLElement>("[data-fan]")) {
      const name = figure.dataset["fan"] ?? "";
      const history = found.history.find((each) => each.resource === name);
      const forecast = found.forecasts.find((each) => each.resource === name);
      charts.get(figure)?.destroy();
      charts.delete(figure);
      const plot = figure.querySelector<HTMLElement>(".plot");
      if (history === undefined || plot === null) continue;
      charts.set(figure, chart(figure, plot, name, table(history, forecast, amountOf(figure, "limit"))));
    }
  };
  const again = (): void => void draw().catch(() => undefined); // the next event tries again
  spans.addEventListener("change", again);
  document.addEventListener("themechange", again);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [figure, each] of charts) each.setSize({ width: widthOf(figure), height: each.height });
  }).observe(place);
  again();
  return again;
}

async function known(
  place: HTMLElement,
  span: number,
): Promise<{ history: History[]; forecasts: Forecast[] } | null> {
  const vm = `/api/v1/vms/${encodeURIComponent(place.dataset["vm"] ?? "")}`;
  const step = Number(place.dataset["step"]);
  const forecasts = await get<Forecast[]>(`${vm}/forecasts`);
  const issued = Math.max(0, ...forecasts.map((each) => each.issued_at + each.step_seconds));
  const until = issued || Number(place.dataset["until"]);
  const resolution = span / step <= COARSEST_RAW_STEPS ? "raw" : span / 300 <= COARSEST_RAW_STEPS ? "5min" : "1h";
  const since = Math.max(0, until - span);
  const history = await get<History[]>(`${vm}/history?since=${since}&until=${until}&resolution=${resolution}`);
  return { history, forecasts };
}

async function get<T>(address: string): Promise<T> {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return (await answer.json()) as T;
}

/** Columns for the chart: the past, then the fan from its last instant on. */
export function table(history: History, forecast: Forecast | undefined, limit: number | null): Table {
  const first = Math.max(history.mean.findIndex((value) => value !== null), 0); // before that it was not there
  const at = history.at.slice(first);
  const mean: (number | null)[] = history.mean.slice(first);
  const ahead = forecast === undefined ? [] : ahead_of(forecast);
  const now = forecast === undefined ? (at.at(-1) ?? 0) : forecast.issued_at + forecast.step_seconds;
  const levels = [...new Set(BANDS.flat())].sort((a, b) => a - b);
  const past = at.length;
  for (const each of ahead) {
    at.push(now + each.after);
    mean.push(null);
  }
  const fan = levels.map((level) => {
    const column: (number | null)[] = new Array<number | null>(past).fill(null);
    const last = history.mean.findLast((value) => value !== null) ?? null;
    if (past && ahead.length) column[past - 1] = last;
    return column.concat(ahead.map((each) => at_level(each.quantiles, forecast?.levels ?? [], level)));
  });
  const series: uPlot.Series[] = [
    {},
    { label: "demand", stroke: ink("--used"), width: 1.5, points: { show: false } },
    ...levels.map((level) => ({
      label: `P${+(level * 100).toFixed(1)}`,
      stroke: ink("--fan"),
      width: level === 0.5 ? 1.5 : 0.5,
      points: { show: false },
    })),
    { label: "limit", stroke: ink("--faint"), dash: [6, 4], width: 1, points: { show: false } },
  ];
  const bands = BANDS.map(([low, high], k) => ({
    series: [2 + levels.indexOf(high), 2 + levels.indexOf(low)] as [number, number],
    fill: ink(`--fan-${k + 1}`),
  }));
  const limits = at.map(() => limit);
  return { data: [at, mean, ...fan, limits] as uPlot.AlignedData, bands, series };
}

/** The forecast as a curve: the mean of the next interval, then the peak until each horizon. */
function ahead_of(forecast: Forecast): { after: number; quantiles: (number | null)[] }[] {
  return [...forecast.targets]
    .sort((a, b) => a.steps - b.steps || a.statistic.localeCompare(b.statistic))
    .filter((each, k, all) => k === 0 || each.steps > (all[k - 1]?.steps ?? 0))
    .map((each) => ({ after: each.steps * forecast.step_seconds, quantiles: each.quantiles }));
}

function at_level(quantiles: (number | null)[], levels: number[], wanted: number): number | null {
  let best = 0;
  levels.forEach((level, k) => {
    if (Math.abs(level - wanted) < Math.abs((levels[best] ?? 0) - wanted)) best = k;
  });
  return quantiles[best] ?? null;
}

function chart(figure: HTMLElement, plot: HTMLElement, name: string, found: Table): uPlot {
  const days = "{YYYY}-{MM}-{DD}";
  const instants: uPlot.Axis.Values = [
    [86400, days, null, null, null, null, null, null, 1],
    [60, "{HH}:{mm}", `\n${days}`, null, `\n${days}`, null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", `\n${days}`, null, `\n${days}`, null, null, null, 1],
  ];
  const axis = { stroke: ink("--faint"), grid: { stroke: ink("--rule"), width: 1 }, ticks: { stroke: ink("--rule") } };
  const amount = (value: number): string => words(value, name);
  return new uPlot(
    {
      width: widthOf(figure),
      height: 260,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      series: found.series.map((each, k) =>
        k
          ? { ...each, value: (_: uPlot, value: number | null) => (value === null ? "–" : amount(value)) }
          : { label: "time", value: `${days} {HH}:{mm}:{ss}` },
      ),
      bands: found.bands,
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
    found.data,
    plot,
  );
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

function amountOf(figure: HTMLElement, name: string): number | null {
  const text = figure.dataset[name];
  const value = Number(text);
  return text && Number.isFinite(value) ? value : null;
}

function widthOf(figure: HTMLElement): number {
  return Math.max(280, figure.clientWidth);
}

function ink(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
