// The playground: one prompt to every column at once.
import { Column } from "./playground/column.js";
import * as conversations from "./playground/conversation.js";
import * as dialogs from "./playground/dialogs.js";
import * as parameters from "./playground/parameters.js";
import * as tray from "./playground/tray.js";
import { watch } from "./playground/waiting.js";

const byId = (id) => document.getElementById(id);
const prompt = byId("prompt"), send = byId("send"), stopAll = byId("stop-all"), schema = byId("schema");
const conversation = conversations.load();
let columns = [];

/** Makes the columns of the page's sections, with the turns that they have had. */
function readColumns() {
  const hooks = {
    keep: (answer, turn, column) => dialogs.keep(answer, turn, column, columns),
    code: dialogs.showCode,
  };
  columns = [...document.querySelectorAll(".pg-column")].map((section) => new Column(section, hooks));
  for (const column of columns) column.restore(conversation.turns);
}

/** The system message: what the visitor wrote, else what the page suggests. */
function followSystem() {
  const system = byId("system");
  system.value = conversation.system ?? system.dataset.suggested; // the text area itself loses a first line's end
  system.addEventListener("input", () => {
    conversation.system = system.value === system.dataset.suggested ? null : system.value;
    conversations.save(conversation);
  });
  for (const button of document.querySelectorAll("[data-use-system]")) {
    button.addEventListener("click", () => {
      system.value = button.dataset.useSystem;
      system.dispatchEvent(new Event("input"));
    });
  }
}

/** Brings the columns of other models into the page, which stays where it is. */
async function chooseModels(address) {
  stop();
  history.replaceState(null, "", address);
  const response = await fetch(address, { headers: { accept: "text/html" } });
  if (!response.ok || response.redirected) return location.reload();
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["columns", "system-part"]) byId(id).replaceWith(page.getElementById(id));
  readColumns();
  followSystem();
  return undefined;
}

function setBusy(isBusy) {
  send.disabled = isBusy;
  send.textContent = isBusy ? "Answering…" : "Ask";
  stopAll.hidden = !isBusy;
}

function stop() { for (const column of columns) column.stop(); }

/** Asks every column at once. */
async function ask() {
  const text = prompt.value;
  if (columns.some((column) => column.isBusy) || columns.length === 0 || !text.trim()) return;
  const fields = parameters.read();
  if (fields === null) return;
  const system = byId("system").value;
  const asked = columns.map((column) => ({
    column, body: requestOf(column.model, conversations.messagesFor(conversation, column.model, system, text), fields),
  }));
  const turn = { prompt: text, answers: {} };
  conversation.turns.push(turn);
  conversation.prompt = prompt.value = "";
  setBusy(true);
  byId("announce").textContent = "";
  watch(columns);
  await Promise.all(asked.map(async ({ column, body }) => announce(column, await column.ask(turn, body))));
  setBusy(false);
  conversations.save(conversation);
}

function requestOf(model, messages, fields) {
  return { model, messages, ...fields, stream: true, stream_options: { include_usage: true } };
}

/** Says the end of an answer to a screen reader, not each piece of it. */
function announce(column, answer) {
  const words = { done: "is complete", stopped: "is stopped", failed: `failed: ${answer.problem}` };
  byId("announce").textContent += `Answer ${column.letter} ${words[answer.state]}. `;
}

function clear() {
  stop();
  conversation.turns = [];
  conversations.save(conversation);
  for (const column of columns) column.restore([]);
  prompt.focus();
}

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) {
    event.preventDefault();
    ask();
  }
}

function keepDraft(input, name) {
  input.value = conversation[name];
  input.addEventListener("input", () => {
    conversation[name] = input.value;
    conversations.save(conversation);
  });
}

readColumns();
followSystem();
keepDraft(prompt, "prompt");
keepDraft(schema, "schema");
parameters.follow(chooseModels);
tray.start();
byId("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
stopAll.addEventListener("click", stop);
byId("clear").addEventListener("click", clear);
document.addEventListener("keydown", onKey);
addEventListener("pagehide", stop);
