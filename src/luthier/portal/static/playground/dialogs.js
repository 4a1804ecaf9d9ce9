// The two dialogs: keeping an answer as a row, and a request as code.
import { codeOf } from "./code.js";
import { exampleRow, preferenceRow } from "./rows.js";
import * as tray from "./tray.js";

const keepDialog = document.getElementById("keep-dialog");
const codeDialog = document.getElementById("code-dialog");
const text = document.getElementById("keep-text");
const over = document.getElementById("keep-over");
const kind = document.getElementById("code-kind");
let keeping = null, shown = null;

/** Asks what an answer should have said, and keeps it as a row. `columns` are those whose answers it may be better than. */
export function keep(answer, turn, column, columns) {
  keeping = { answer, worse: others(answer, turn, column, columns) };
  text.value = answer.text;
  over.replaceChildren(...keeping.worse.map(([label], index) => new Option(label, String(index))));
  keepDialog.querySelector("[value=example]").checked = true;
  problem("");
  keepDialog.showModal();
}

/** Label and text of every answer that a preference may name as the worse one: the others' and this one uncorrected. */
function others(answer, turn, column, columns) {
  const found = columns
    .filter((other) => other !== column && turn.answers[other.model]?.text)
    .map((other) => [`the answer of ${other.letter} (${other.model})`, turn.answers[other.model].text]);
  return [...found, ["this answer before I corrected it", answer.text]];
}

function onKeep(event) {
  if (event.submitter?.value !== "keep") return;
  event.preventDefault();
  try {
    const isPair = keepDialog.querySelector("[value=preference]").checked;
    tray.add(isPair ? "preference" : "example", isPair ? pair() : exampleRow(keeping.answer.request.messages, wanted()));
    keepDialog.close("keep");
  } catch (error) { problem(error.message); }
}

function wanted() {
  if (!text.value.trim()) throw new Error("The answer is empty, so there is nothing to learn.");
  return text.value;
}

function pair() {
  const worse = keeping.worse[Number(over.value)][1];
  if (worse === wanted()) throw new Error("Both answers are the same, so the row says nothing about which is better.");
  return preferenceRow(keeping.answer.request.messages, wanted(), worse);
}

function problem(message) {
  const line = document.getElementById("keep-problem");
  line.hidden = !message;
  line.textContent = message;
}

/** Shows the request of an answer as code. */
export function showCode(answer, column) {
  shown = { body: answer.request, isDeployment: Boolean(column.deployment) };
  document.getElementById("code-about").textContent =
    `What was sent to ${column.model}, without the key: export it as the variable that the code reads. ` +
    `Request id: ${answer.requestId ?? "none, it did not arrive"}.`;
  fillCode();
  codeDialog.showModal();
}

function fillCode() {
  const root = location.origin + document.body.dataset.api;
  codeDialog.querySelector("code").textContent = codeOf(kind.value, shown.body, root, shown.isDeployment);
}

keepDialog.querySelector("form").addEventListener("submit", onKeep);
over.addEventListener("change", () => { keepDialog.querySelector("[value=preference]").checked = true; });
kind.addEventListener("change", fillCode);
