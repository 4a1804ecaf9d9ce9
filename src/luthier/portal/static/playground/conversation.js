// The conversation of this tab: in sessionStorage under a name of the session, so that a reload keeps it, and closing
// the tab or a new session ends it. Nothing of it is in the URL, where logs and the history would keep it.
const PREFIX = "luthier.playground.";
const NAME = PREFIX + (document.body.dataset.csrf ?? "").slice(0, 16);

/**
 * What is kept: `turns` of {prompt, answers}, `answers` by the model's name; the prompt that is being written, the
 * system message (null: not changed), and the schema.
 */
export function load() {
  for (const name of Object.keys(sessionStorage)) {
    if (name.startsWith(PREFIX) && name !== NAME) sessionStorage.removeItem(name);
  }
  const empty = { turns: [], prompt: "", system: null, schema: "" };
  try { return { ...empty, ...JSON.parse(sessionStorage.getItem(NAME) ?? "{}") }; } catch { return empty; }
}

export function save(conversation) {
  try { sessionStorage.setItem(NAME, JSON.stringify(conversation)); } catch { /* full: a reload loses the newest turns */ }
}

/** What a model is sent: the system message, the turns that it has answered, and the prompt. */
export function messagesFor(conversation, model, system, prompt) {
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const turn of conversation.turns) {
    const text = turn.answers[model]?.text;
    if (text) messages.push({ role: "user", content: turn.prompt }, { role: "assistant", content: text });
  }
  return [...messages, { role: "user", content: prompt }];
}
