// One chart: uPlot inside a figure that has a name, a legend with values, a table, and works by keyboard.
/* global uPlot */
const AXIS_NAMES = { step: "step", tokens: "trained tokens", time: "minutes" };
const STYLES = [
  { width: 2 }, { width: 2, dash: [7, 4] }, { width: 2, dash: [2, 3] }, { width: 2, dash: [10, 3, 2, 3] },
];
const TABLE_ROWS = 25;

/** The text of a value: four significant digits. */
export function text(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 10000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
}

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/**
 * A chart in `figure`. `series` are {label, color (1 to 8), scale ("y" or "y2"), faint}. `onZoom(min, max)` is called
 * when the visitor zooms, with nulls when the whole is shown again.
 */
export class Chart {
  constructor(figure, { series, axis = "step", log = false, onZoom = () => {}, syncKey = "charts" }) {
    Object.assign(this, { figure, series, axis, log, onZoom, syncKey, marks: [], data: [[]], zoomed: false });
    this.plot = figure.querySelector(".plot");
    this.#drawLegend();
    this.#listen();
  }

  /** Shows other values: x, then one array for each series. `marks` are {x, label, best}. */
  show(data, marks, { axis = this.axis, log = this.log } = {}) {
    const rebuild = axis !== this.axis || log !== this.log || !this.uplot;
    Object.assign(this, { data: log ? positive(data) : data, marks, axis, log });
    if (rebuild) this.#build();
    else this.uplot.setData(this.data, !this.zoomed);
    this.#describe();
    if (this.figure.querySelector("details[open] table")) this.#fillTable();
  }

  /** Zooms to a range of x; null, null shows the whole. */
  zoom(min, max) {
    this.zoomed = min !== null;
    if (!this.uplot) return;
    const x = this.data[0];
    this.uplot.setScale("x", this.zoomed ? { min, max } : { min: x[0], max: x[x.length - 1] });
  }

  /** Draws again with the colours of the present theme, at the present width. */
  redraw() { if (this.uplot) this.#build(); }

  #build() {
    this.uplot?.destroy();
    const two = this.series.some((one) => one.scale === "y2");
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") }, font: "12px system-ui" };
    const y = { ...axis, size: 58, values: (_, ticks) => ticks.map((value) => (value === null ? "" : text(value))) };
    const scale = this.log ? { distr: 3 } : {};
    const options = {
      width: Math.max(240, this.plot.clientWidth), height: 240, legend: { show: false },
      scales: { x: { time: false }, y: scale, y2: scale },
      series: [{}, ...this.series.map((one) => this.#style(one))],
      axes: [{ ...axis, label: AXIS_NAMES[this.axis], labelSize: 18, labelFont: "12px system-ui", size: 40, values: (_, ticks) => ticks.map(text) },
        { ...y, scale: "y" }, ...(two ? [{ ...y, scale: "y2", side: 1, grid: { show: false } }] : [])],
      cursor: { sync: { key: this.syncKey }, drag: { x: true, y: false }, points: { size: 7 } },
      hooks: {
        draw: [(u) => this.#drawMarks(u)], setCursor: [(u) => this.#showValues(u.cursor.idx)],
        setSelect: [(u) => this.#selected(u)],
      },
    };
    this.uplot = new uPlot(options, this.data, this.plot);
    this.uplot.over.addEventListener("dblclick", () => this.onZoom(null, null));
  }

  #style(one) {
    const index = this.series.indexOf(one) % STYLES.length;
    const stroke = color(`--s${one.color}`);
    const base = { label: one.label, scale: one.scale ?? "y", spanGaps: true, stroke: one.faint ? `${stroke}55` : stroke };
    if (one.faint) return { ...base, width: 1, points: { show: false } };
    return { ...base, ...(one.solid ? STYLES[0] : STYLES[index]), points: { show: (u, at) => sparse(u.data[at]), size: 6, fill: stroke } };
  }

  #selected(u) {
    if (u.select.width < 4) return;
    this.onZoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  #drawMarks(u) {
    const { ctx, bbox } = u;
    ctx.save();
    for (const mark of this.marks) {
      const x = u.valToPos(mark.x, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = color(mark.best ? "--good" : "--strong-line");
      ctx.lineWidth = devicePixelRatio * (mark.best ? 2 : 1);
      ctx.setLineDash(mark.best ? [] : [2 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (!mark.best) continue;
      ctx.font = `${12 * devicePixelRatio}px system-ui`;
      ctx.textAlign = x > bbox.left + bbox.width / 2 ? "right" : "left";
      ctx.fillText(" best ", x, bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  }

  #drawLegend() {
    this.legend = this.figure.querySelector(".legend");
    this.legend.replaceChildren(...this.series.filter((one) => !one.faint).map((one) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = `swatch s${one.color}`;
      const value = document.createElement("b");
      item.append(swatch, `${one.label} `, value);
      return item;
    }));
    this.values = [...this.legend.querySelectorAll("b")];
  }

  /** The legend's values at a row; without one those of the last row that has any. */
  #showValues(index) {
    const shown = this.series.map((one, at) => [one, this.data[at + 1] ?? []]).filter(([one]) => !one.faint);
    shown.forEach(([, values], at) => {
      const value = index === null || index === undefined ? lastOf(values) : nearest(values, index);
      this.values[at].textContent = text(value);
    });
  }

  #describe() {
    this.#showValues(null);
    const shown = this.series.map((one, at) => [one, this.data[at + 1] ?? []]).filter(([one]) => !one.faint);
    const parts = shown.map(([one, values]) => `${one.label}: from ${text(values.find((v) => v !== null))} to ${text(lastOf(values))}`);
    const name = this.figure.querySelector("figcaption").textContent.trim();
    this.plot.setAttribute("aria-label", `${name}. ${parts.join("; ")}. Arrow keys move along the line.`);
  }

  #fillTable() {
    const x = this.data[0];
    const every = Math.max(1, Math.ceil(x.length / TABLE_ROWS));
    const shown = this.series.map((one, at) => [one, this.data[at + 1]]).filter(([one]) => !one.faint);
    const rows = x.map((_, row) => row).filter((row) => row % every === 0 || row === x.length - 1);
    const cells = (tag, values) => values.map((value) => Object.assign(document.createElement(tag), { textContent: value, className: "number" }));
    const line = (nodes) => { const tr = document.createElement("tr"); tr.append(...nodes); return tr; };
    const table = this.figure.querySelector("details table");
    table.tHead.replaceChildren(line(cells("th", [AXIS_NAMES[this.axis], ...shown.map(([one]) => one.label)])));
    table.tBodies[0].replaceChildren(...rows.map((row) => line(cells("td", [text(x[row]), ...shown.map(([, values]) => text(values[row]))]))));
  }

  #listen() {
    this.figure.querySelector("details")?.addEventListener("toggle", () => this.#fillTable());
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.uplot?.setSize({ width: Math.max(240, this.plot.clientWidth), height: 240 })).observe(this.plot);
  }

  /** Arrows move a point along the line, + and - zoom, Escape shows the whole again. */
  #key(event) {
    const u = this.uplot;
    if (!u || !this.data[0].length) return;
    const last = this.data[0].length - 1;
    const at = Math.min(last, Math.max(0, (u.cursor.idx ?? last) + ({ ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key] ?? 0)));
    const x = this.data[0][at];
    if (event.key === "Escape") this.onZoom(null, null);
    else if (event.key === "+" || event.key === "-") {
      const width = (u.scales.x.max - u.scales.x.min) * (event.key === "+" ? 0.25 : 1);
      this.onZoom(Math.max(this.data[0][0], x - width), Math.min(this.data[0][last], x + width));
    } else if (event.key.startsWith("Arrow") || event.key.startsWith("Page")) {
      u.setCursor({ left: u.valToPos(x, "x"), top: 0 });
    } else return;
    event.preventDefault();
  }
}

function positive(data) {
  return [data[0], ...data.slice(1).map((values) => values.map((value) => (value > 0 ? value : null)))];
}

/** Whether a series has so few values that each is shown as a point. */
function sparse(values) {
  let n = 0;
  for (const value of values) if (value !== null) n += 1;
  return n <= 60;
}

function lastOf(values) {
  for (let at = values.length - 1; at >= 0; at -= 1) if (values[at] !== null) return values[at];
  return null;
}

/** The value of a row; of a series with gaps the last one before it. */
function nearest(values, index) {
  for (let at = index; at >= 0; at -= 1) if (values[at] !== null && values[at] !== undefined) return values[at];
  return null;
}
