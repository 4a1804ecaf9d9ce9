// A job's page: its charts, filled from the public API and kept up while the tab is visible.
import { smooth, xValues, MetricsFeed } from "./metrics.js";
import { Chart } from "./chart.js";
import { connectTools } from "./axes.js";

const KINDS = {
  loss: [["train_loss", "training", 1], ["valid_loss", "validation", 2]],
  accuracy: [["train_mean_token_accuracy", "training", 1], ["valid_mean_token_accuracy", "validation", 2]],
  full: [["full_valid_loss", "loss", 2], ["full_valid_mean_token_accuracy", "token accuracy", 3, "y2"]],
  rate: [["learning_rate", "learning rate", 4]],
  norm: [["gradient_norm", "gradient norm", 6]],
  rewards: [["train_reward_margin", "margin, training", 1], ["full_valid_reward_margin", "margin, validation", 2]],
  preferred: [["train_reward_accuracy", "accuracy, training", 1], ["full_valid_reward_accuracy", "accuracy, validation", 2]],
};
const POLL_MS = 2000;
const root = document.getElementById("charts");
const feed = new MetricsFeed(root.dataset.job);
const charts = new Map();
let tools = { axis: "step", weight: 0, log: false };
let range = null;

function columnsShown() { return range?.columns ?? feed.columns; }

function draw() {
  const columns = columnsShown();
  if (!columns.step.length) return;
  document.getElementById("no-metrics").hidden = true;
  const x = xValues(columns, tools.axis, feed.columns.at[0]);
  const marks = marksAt(columns, x);
  for (const figure of root.querySelectorAll("figure[data-chart]")) {
    const kinds = KINDS[figure.dataset.chart];
    const present = kinds.filter(([name]) => columns[name]?.some((value) => value !== null));
    figure.hidden = present.length === 0;
    if (!figure.hidden) drawOne(figure, present, x, columns, marks);
  }
}

function drawOne(figure, kinds, x, columns, marks) {
  const faint = tools.weight > 0;
  const key = `${kinds.map(([name]) => name).join()}${faint}`;
  let chart = charts.get(figure);
  if (chart?.key !== key) {
    chart?.uplot?.destroy();
    const series = kinds.flatMap(([, label, color, scale]) => [{ label, color, scale, solid: color !== 2 }, ...(faint ? [{ label, color, scale, faint }] : [])]);
    chart = Object.assign(new Chart(figure, { series, ...tools, onZoom: zoomTo }), { key });
    charts.set(figure, chart);
  }
  const values = kinds.flatMap(([name]) => (faint ? [smooth(columns[name], tools.weight), columns[name]] : [columns[name]]));
  chart.show([x, ...values], marks, tools);
}

/** Where the checkpoints are on the present axis. */
function marksAt(columns, x) {
  return feed.checkpoints.flatMap((checkpoint) => {
    const at = columns.step.findIndex((step) => step >= checkpoint.step);
    return at < 0 ? [] : [{ x: x[at], best: checkpoint.is_best }];
  });
}

/** Zooms every chart; a run that was reduced is read once more for the steps of the range. */
async function zoomTo(min, max) {
  document.getElementById("unzoom").hidden = min === null;
  if (min === null) {
    range = null;
    draw();
    charts.forEach((chart) => chart.zoom(null, null));
    return;
  }
  if (feed.reduced) {
    const columns = columnsShown();
    const x = xValues(columns, tools.axis, feed.columns.at[0]);
    const first = x.findIndex((value) => value >= min);
    const last = x.findLastIndex((value) => value <= max);
    if (first >= 0 && last > first) range = { columns: await feed.range(columns.step[first], columns.step[last]) };
    draw();
  }
  charts.forEach((chart) => chart.zoom(min, max));
}

async function poll() {
  if (!document.hidden) {
    try {
      if (await feed.refresh()) draw();
    } catch { /* the page's own notice tells that the service does not answer */ }
  }
  if (!["succeeded", "failed", "cancelled"].includes(feed.status)) setTimeout(poll, POLL_MS);
}

tools = connectTools(document.getElementById("tools"), (changed) => { tools = changed; range = null; zoomTo(null, null); });
document.getElementById("unzoom").addEventListener("click", () => zoomTo(null, null));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));
poll();
