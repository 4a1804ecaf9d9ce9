// A job's metrics as columns, read from the public API: the whole run reduced, then the tail; and a range in full.
import { api } from "./portal.js";

const COLUMNS_APART = new Set(["checkpoints"]);

/** Keeps one job's columns. `columns` has arrays of one length by name; `checkpoints` those that exist, oldest first. */
export class MetricsFeed {
  constructor(jobId) {
    this.jobId = jobId;
    this.columns = { step: [], at: [], tokens: [] };
    this.checkpoints = [];
    this.cursor = null;
    this.reduced = false;
    this.status = "";
    this.nSteps = null;
    this.etag = "";
  }

  /** Reads what is new. Resolves with whether anything was. */
  async refresh() {
    const tail = this.cursor ? `&after=${encodeURIComponent(this.cursor)}` : "";
    const headers = this.etag ? { "if-none-match": this.etag } : {};
    const response = await this.#get(`points=800${tail}`, headers);
    if (response === null) return false;
    const answer = await response.json();
    const before = [this.columns.step.length, this.checkpoints.length, this.status].join();
    append(this.columns, answer);
    Object.assign(this, { checkpoints: answer.checkpoints, status: answer.status, nSteps: answer.n_steps });
    this.reduced ||= answer.reduced;
    // The address changes with the cursor, and with it what a tag is of.
    this.etag = answer.cursor === this.cursor ? response.headers.get("etag") ?? "" : "";
    this.cursor = answer.cursor;
    return before !== [this.columns.step.length, this.checkpoints.length, this.status].join();
  }

  /** The columns of the steps between the two, as many as a chart can show. */
  async range(fromStep, toStep) {
    const response = await this.#get(`points=4000&from_step=${fromStep}&to_step=${toStep}`, {});
    const columns = {};
    append(columns, await response.json());
    return columns;
  }

  async #get(query, headers) {
    try {
      return await api(`/luthier/jobs/${this.jobId}/metrics?${query}`, { headers, cache: "no-store" });
    } catch (error) {
      if (error.status === 304) return null;
      throw error;
    }
  }
}

/** Appends an answer's columns; a column that one side lacks is filled with null, so that all stay of one length. */
function append(columns, answer) {
  const before = columns.step?.length ?? 0;
  const names = Object.keys(answer).filter((name) => Array.isArray(answer[name]) && !COLUMNS_APART.has(name));
  for (const name of names) columns[name] ??= Array(before).fill(null);
  const added = answer.step.length;
  for (const name of Object.keys(columns)) columns[name].push(...(answer[name] ?? Array(added).fill(null)));
}

/** An exponential moving average without its bias towards the start; null stays null. `weight` is 0 to 0.99. */
export function smooth(values, weight) {
  let last = 0, n = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    last = last * weight + (1 - weight) * value;
    n += 1;
    return last / (1 - weight ** n);
  });
}

/** The x values of an axis: steps, trained tokens, or minutes since `start`, the unix time of the run's first step. */
export function xValues(columns, axis, start = columns.at[0]) {
  if (axis === "tokens" && columns.tokens.some((value) => value !== null)) return columns.tokens;
  if (axis === "time") return columns.at.map((at) => (at - start) / 60);
  return columns.step;
}
