// The tray of kept rows: in localStorage, one for each resource, until they are saved as a file or removed.
import { api } from "../portal.js";
import { asLines, summary } from "./rows.js";

const MAX_BYTES = 50_000_000;
const NAMES = { example: ["training row", "training rows"], preference: ["preference pair", "preference pairs"] };
const section = document.getElementById("tray");
const part = (id) => document.getElementById(`tray-${id}`);
const NAME = `luthier.rows.${section.dataset.resource}`;
/** The id of the file that examples were saved to last: by default the next ones go into a copy of it. */
const TARGET = `luthier.rows-file.${section.dataset.resource}`;
let listed = false;

/** Keeps a row; `kind` is example or preference. Throws in plain words if the browser has no room for it. */
export function add(kind, row) {
  const id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
  store([...load(), { id, kind, row }]);
}

/** Shows the tray, and follows what other tabs do to it. */
export function start() {
  part("clear").addEventListener("click", clear);
  for (const button of section.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button));
  }
  addEventListener("storage", (event) => { if (event.key === NAME) render(); });
  render();
}

function load() {
  try { return JSON.parse(localStorage.getItem(NAME) ?? "[]"); } catch { return []; }
}

function store(kept) {
  try { localStorage.setItem(NAME, JSON.stringify(kept)); } catch {
    throw new Error("This browser has no room for more kept rows. Save the ones you have as a file first.");
  }
  render();
}

function clear() {
  const { length } = load();
  if (confirm(`Remove ${length} kept ${length === 1 ? "row" : "rows"}? They are not in any file.`)) store([]);
}

function counted(kind, number) { return `${number} ${NAMES[kind][number === 1 ? 0 : 1]}`; }

function render() {
  const kept = load();
  const numbers = Object.keys(NAMES).map((kind) => [kind, kept.filter((one) => one.kind === kind).length]);
  const told = numbers.filter(([, number]) => number > 0).map(([kind, number]) => counted(kind, number));
  const none = "None yet. Keep good answers, and corrected ones, as rows to train on.";
  part("count").textContent = told.length ? `${told.join(" and ")} kept. A job takes at least ten rows of one kind.` : none;
  part("list").hidden = part("actions").hidden = kept.length === 0;
  if (kept.length > 0 && part("target")) listFiles();
  part("list").querySelector("ol").replaceChildren(...kept.map(item));
  for (const [kind, number] of numbers) {
    const button = section.querySelector(`[data-save="${kind}"]`);
    if (!button) continue;
    button.hidden = number === 0;
    button.textContent = `Save ${counted(kind, number)}`;
  }
}

function item({ id, row }) {
  const line = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Remove";
  button.addEventListener("click", () => store(load().filter((one) => one.id !== id)));
  line.append(summary(row), " ", button);
  return line;
}

/** The files that rows can be added to, newest first. */
async function listFiles() {
  if (listed) return;
  listed = true;
  try {
    const { data } = await (await api("/v1/files?purpose=fine-tune&limit=100")).json();
    for (const file of data) {
      part("target").add(new Option(`${file.filename} (${file.id})`, file.id, false, file.id === localStorage.getItem(TARGET)));
    }
  } catch (error) { tell(`Your files cannot be listed: ${error.message}`, true); }
}

/** Uploads the rows of a kind as a file; they leave the tray once it is stored. */
async function save(button) {
  const kind = button.dataset.save;
  const kept = load().filter((one) => one.kind === kind);
  button.disabled = true;
  tell(`Saving ${counted(kind, kept.length)}…`, false);
  try {
    const before = await chosenFile(kind);
    const file = await upload(before, asLines(kept.map((one) => one.row)), kind);
    const saved = new Set(kept.map((one) => one.id));
    store(load().filter((one) => !saved.has(one.id)));
    if (kind === "example") chooseNextTime(file);
    tellSaved(file, counted(kind, kept.length));
  } catch (error) {
    tell(`Nothing was saved: ${error.message}${error.requestId ? ` Request id ${error.requestId}` : ""}`, true);
  }
  button.disabled = false;
}

function chooseNextTime(file) {
  part("target").add(new Option(`${file.filename} (${file.id})`, file.id, false, true), 1);
  try { localStorage.setItem(TARGET, file.id); } catch { /* chosen in this tab only */ }
}

/** Name and text of the file that the rows are added to; null for a new one. */
async function chosenFile(kind) {
  const id = part("target").value;
  if (!id || (kind !== "example" && id === localStorage.getItem(TARGET))) return null; // a file has rows of one kind
  const file = await (await api(`/v1/files/${id}`)).json();
  if (file.bytes > MAX_BYTES) throw new Error(`${file.filename} is too large to be taken through the browser (50 MB).`);
  const text = (await (await api(`/v1/files/${id}/content`)).text()).trimEnd();
  return { name: file.filename, text: text ? `${text}\n` : "" };
}

async function upload(before, lines, kind) {
  const at = new Date().toISOString().slice(0, 16).replace(/[T:]/g, "-");
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", new File([before?.text ?? "", lines], before?.name ?? `playground-${kind}s-${at}.jsonl`));
  return (await api("/v1/files", { method: "POST", body: form })).json();
}

function tell(text, isProblem) {
  const line = document.createElement("p");
  line.className = isProblem ? "problem" : "muted";
  line.textContent = text;
  part("saved").replaceChildren(line);
}

function tellSaved(file, what) {
  const line = document.createElement("p");
  line.className = "callout good";
  const { base } = document.body.dataset;
  const tuned = document.querySelector('.pg-column[data-model*=".ft-"]')?.dataset.model;
  const from = tuned ? `&from=${encodeURIComponent(tuned)}` : "";
  line.append(`${what} saved as `, link(`${base}/files/${file.id}`, file.filename), ". ",
    link(`${base}/jobs/new?training_file=${file.id}${from}`, tuned ? "Train the tuned model further with it" : "Make a job with it"),
    ". A job needs ten rows.");
  part("saved").replaceChildren(line);
}

function link(href, text) { return Object.assign(document.createElement("a"), { href, textContent: text }); }
