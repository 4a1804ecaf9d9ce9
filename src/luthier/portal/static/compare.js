// Several jobs on one set of axes: one chart for each figure, one line for each job, colours as the page gives them.
/* global uPlot */
import { smooth, xValues, MetricsFeed } from "./metrics.js";
import { Chart } from "./chart.js";
import { connectTools } from "./axes.js";

const POLL_MS = 3000;
const ENDED = ["succeeded", "failed", "cancelled"];
const jobs = [...document.querySelectorAll("#compared li")].map(({ dataset }) => ({ ...dataset, feed: new MetricsFeed(dataset.job) }));
const charts = new Map();
let tools = { axis: "step", weight: 0, log: false };

function draw() {
  for (const figure of document.querySelectorAll("figure[data-column]")) {
    const column = figure.dataset.column;
    const shown = jobs.filter(({ feed }) => feed.columns[column]?.some((value) => value !== null));
    figure.hidden = shown.length === 0;
    if (!figure.hidden) drawOne(figure, column, shown);
  }
}

function drawOne(figure, column, shown) {
  const key = shown.map(({ job }) => job).join();
  let chart = charts.get(figure);
  if (chart?.key !== key) {
    chart?.uplot?.destroy();
    const series = shown.map(({ name, color }) => ({ label: name, color: Number(color), solid: false }));
    chart = Object.assign(new Chart(figure, { series, ...tools, onZoom: zoomTo }), { key });
    charts.set(figure, chart);
  }
  const tables = shown.map(({ feed }) => {
    const x = xValues(feed.columns, tools.axis);
    const values = tools.weight > 0 ? smooth(feed.columns[column], tools.weight) : feed.columns[column];
    // A token count may be unknown at first rows; what has no place on the axis is not drawn.
    const kept = x.map((_, at) => at).filter((at) => x[at] !== null);
    return [kept.map((at) => x[at]), kept.map((at) => values[at])];
  });
  chart.show(tables.length === 1 ? tables[0] : gapsAsNull(uPlot.join(tables)), [], tools);
}

function gapsAsNull(data) { return data.map((values) => values.map((value) => value ?? null)); }

function zoomTo(min, max) {
  document.getElementById("unzoom").hidden = min === null;
  charts.forEach((chart) => chart.zoom(min, max));
}

async function poll() {
  if (!document.hidden) {
    const open = jobs.filter(({ feed }) => !ENDED.includes(feed.status));
    const changed = await Promise.all(open.map(({ feed }) => feed.refresh().catch(() => false)));
    if (changed.some(Boolean)) draw();
  }
  if (jobs.some(({ feed }) => !ENDED.includes(feed.status))) setTimeout(poll, POLL_MS);
}

tools = connectTools(document.getElementById("tools"), (changed) => { tools = changed; zoomTo(null, null); draw(); });
document.getElementById("unzoom").addEventListener("click", () => zoomTo(null, null));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));
poll();
