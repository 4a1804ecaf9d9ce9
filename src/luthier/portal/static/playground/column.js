// One model's column: it asks, streams what comes into the page, and tells how it went.
import { ask } from "./stream.js";
import { addRows, tokenNodes } from "./tokens.js";

const template = document.getElementById("turn-template");

/** `hooks.keep(answer, turn, column)` and `hooks.code(answer, column)` are the buttons of an answer. */
export class Column {
  constructor(section, hooks) {
    this.model = section.dataset.model;
    this.deployment = section.dataset.deployment;
    this.letter = section.dataset.letter;
    this.isWaiting = false;
    this.turns = section.querySelector(".pg-turns");
    this.badge = section.querySelector("[data-state]");
    this.stopButton = section.querySelector("[data-stop]");
    this.stopButton.addEventListener("click", () => this.stop());
    this.hooks = hooks;
    this.abort = null;
  }

  get isBusy() { return this.abort !== null; }

  /** Says in the column's badge what it does. */
  tell(text, tone) {
    if (this.badge.textContent !== text) this.badge.textContent = text;
    this.badge.className = `badge ${tone}`;
  }

  /** Shows turns that have ended before; a turn that this model was not asked is left out. */
  restore(turns) {
    this.turns.replaceChildren();
    this.tell("ready", "neutral");
    for (const turn of turns) {
      const answer = turn.answers[this.model];
      if (!answer) continue;
      const shown = this.show(turn);
      shown.answer.textContent = answer.text;
      this.finish(shown, answer, turn);
    }
  }

  stop() { this.abort?.abort(); }

  /** Asks the model; resolves when the answer has ended, however it did. */
  async ask(turn, body) {
    const answer = { text: "", request: body, state: "done" };
    turn.answers[this.model] = answer;
    const shown = this.show(turn);
    this.abort = new AbortController();
    this.isWaiting = true;
    this.stopButton.hidden = false;
    this.tell("asked", "busy");
    const writer = new Writer(shown.answer, shown.tokens, this.turns);
    try {
      await ask(body, this.abort.signal, answer, (text, tokens) => this.take(answer, writer, text, tokens));
    } catch (error) { fail(answer, error); }
    writer.flush();
    this.abort = null;
    this.isWaiting = false;
    this.stopButton.hidden = true;
    this.finish(shown, answer, turn);
    return answer;
  }

  take(answer, writer, text, tokens) {
    if (this.isWaiting) this.tell("generating", "busy");
    this.isWaiting = false;
    answer.text += text;
    writer.add(text, tokens);
  }

  /** The elements of a new turn at the end of the column. */
  show(turn) {
    const article = template.content.cloneNode(true).firstElementChild;
    const part = (name) => article.querySelector(`[data-${name}]`);
    part("prompt").textContent = turn.prompt;
    this.turns.append(article);
    this.turns.scrollTop = this.turns.scrollHeight;
    return {
      answer: part("answer"), figures: part("figures"), problem: part("problem"), tokens: part("tokens"),
      actions: part("actions"), keep: part("keep"), code: part("code"),
    };
  }

  /** Figures, problem and buttons of an answer that has ended. */
  finish(shown, answer, turn) {
    const [word, tone] = { done: ["done", "good"], stopped: ["stopped", "warning"], failed: ["failed", "bad"] }[answer.state];
    this.tell(word, tone);
    shown.figures.textContent = figures(answer);
    shown.problem.hidden = !answer.problem;
    shown.problem.textContent = answer.problem ?? "";
    shown.actions.hidden = false;
    shown.keep.hidden = answer.state === "failed" && !answer.text;
    shown.keep.addEventListener("click", () => this.hooks.keep(answer, turn, this));
    shown.code.addEventListener("click", () => this.hooks.code(answer, this));
    if (answer.text === "" && answer.state === "done") shown.answer.textContent = "(an empty answer)";
    this.turns.scrollTop = this.turns.scrollHeight;
  }
}

/** Puts text into the page once a frame, however many pieces come in between. */
class Writer {
  constructor(element, details, scroller) {
    Object.assign(this, { element, details, scroller, text: "", tokens: [], frame: 0 });
    this.node = element.appendChild(document.createTextNode(""));
  }

  add(text, tokens) {
    if (tokens) this.tokens.push([text, tokens]); else this.text += text;
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const isAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 40;
    if (this.text) this.node.appendData(this.text);
    for (const [text, tokens] of this.tokens) {
      this.element.append(...tokenNodes(text, tokens));
      addRows(this.details.querySelector("tbody"), tokens);
      this.details.hidden = false;
    }
    this.text = "";
    this.tokens = [];
    if (isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

/** Notes why an answer has no end of its own. */
function fail(answer, error) {
  answer.requestId = error.requestId ?? answer.requestId;
  if (error.name === "AbortError") {
    answer.state = "stopped";
    return;
  }
  answer.state = "failed";
  const isNetwork = error instanceof TypeError;
  const text = isNetwork ? "The service did not answer: it may have stopped, or the network is down." : error.status === 401 ? "Nothing was asked." : error.message;
  const next = error.status === 401 ? " You were signed out in another tab, or the session has ended: reload this page to sign in. Copy your question first." : "";
  answer.problem = `${text}${next}${answer.requestId ? ` (request id ${answer.requestId})` : ""}`;
}

/** The figures of an answer in one line. */
function figures(answer) {
  const { firstS, rate, finish, usage } = answer;
  return [
    firstS !== undefined && `first token after ${firstS < 10 ? firstS.toFixed(2) : firstS.toFixed(0)} s`,
    rate && `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`,
    finish && `finish reason ${finish}`,
    usage && `${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written`,
  ].filter(Boolean).join(" · ");
}
