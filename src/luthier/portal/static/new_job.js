// The new-job form: after each change it asks for its own page again and takes over the parts that only show something.
import { enhance } from "./portal.js";
import { prepareArea } from "./upload.js";

const form = document.getElementById("new-job");
const shown = new WeakMap();  // the HTML of each part as it came
let running = null, timer = 0;

function query() {
  const values = [...new FormData(form)].filter(([, value]) => value !== "");
  return new URLSearchParams(values).toString();
}

async function refresh() {
  running?.abort();
  running = new AbortController();
  const address = `${form.getAttribute("action")}?${query()}`;
  document.getElementById("summary").setAttribute("aria-busy", "true");
  try {
    const headers = { "x-portal-fragment": "1" };
    const response = await fetch(address, { headers, signal: running.signal, cache: "no-store" });
    if (response.status === 401) return location.reload();
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!page.getElementById("new-job")) throw new Error("no form");
    history.replaceState(null, "", address);
    for (const part of form.querySelectorAll("[data-part]")) takeOver(part, page.getElementById(part.id));
    showState();
    document.getElementById("connection").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    document.getElementById("connection").hidden = false;
  }
  document.getElementById("summary").removeAttribute("aria-busy");
  return undefined;
}

/** Replaces a part's content if it is another; keeps the focus and the open details. */
function takeOver(part, fresh) {
  if (!fresh || shown.get(part) === fresh.innerHTML) return;
  shown.set(part, fresh.innerHTML);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const states = [...part.querySelectorAll("details[id]")].map((one) => [one.id, one.open]);
  part.replaceChildren(...fresh.childNodes);
  for (const [id, open] of states) { const one = document.getElementById(id); if (one) one.open = open; }
  if (focused) document.getElementById(focused)?.focus();
  enhance(part);
}

/** What is hidden or marked as wrong by what the parts say. */
function showState() {
  document.getElementById("beta-field").hidden = !document.getElementById("method-dpo").checked;
  for (const note of form.querySelectorAll("[id$='-note']")) {
    const input = document.getElementById(note.id.replace("-note", ""));
    input?.setAttribute("aria-invalid", String(Boolean(note.querySelector(".problem"))));
  }
}

function plan(delay) {
  clearTimeout(timer);
  timer = setTimeout(refresh, delay);
}

form.addEventListener("input", (event) => {
  if (event.target.type === "file" || event.target.name === "find") return;
  plan(event.target.matches("select, [type=radio]") ? 0 : 400);
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.formMethod === "post") return;
  event.preventDefault();
  plan(0);
});
for (const area of document.querySelectorAll("[data-upload]")) {
  prepareArea(area, (file) => {
    const select = document.getElementById(area.dataset.upload);
    select.add(new Option(file.filename, file.id, true, true));
    refresh();
  });
}
