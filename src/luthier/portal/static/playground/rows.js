// Training rows from answers, in the API's formats.

/** A supervised row: the messages that were sent and the answer. Only this answer is learned: earlier ones weigh 0. */
export function exampleRow(messages, text) {
  const read = messages.map((message) => (message.role === "assistant" ? { ...message, weight: 0 } : message));
  return { messages: [...read, { role: "assistant", content: text }] };
}

/** A preference pair for the method dpo: `better` rather than `worse` after these messages. */
export function preferenceRow(messages, better, worse) {
  return {
    input: { messages },
    preferred_output: [{ role: "assistant", content: better }],
    non_preferred_output: [{ role: "assistant", content: worse }],
  };
}

/** Rows as the text of a JSONL file. */
export function asLines(rows) { return rows.map((row) => `${JSON.stringify(row)}\n`).join(""); }

/** What a row teaches, for a list: the last prompt and the answer. */
export function summary(row) {
  const messages = row.input?.messages ?? row.messages;
  const prompt = messages.findLast((message) => message.role === "user")?.content ?? "";
  if (!row.input) return `${short(prompt)} → ${short(messages.at(-1).content)}`;
  return `${short(prompt)} → ${short(row.preferred_output[0].content)} rather than ${short(row.non_preferred_output[0].content)}`;
}

function short(text) { return text.length > 80 ? `“${text.slice(0, 80)}…”` : `“${text}”`; }
