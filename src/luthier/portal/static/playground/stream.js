// Streamed answers of POST /v1/chat/completions.
import { api } from "../portal.js";

/** Yields the value of each server-sent event until [DONE]. Throws if the stream ends before that. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const parts = (rest + (value ?? "")).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const data of parts.map(dataOf)) {
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
      if (done) throw new Error("The answer broke off: the connection ended before it was complete.");
    }
  } finally { reader.cancel().catch(() => {}); }
}

/** The data of one event; empty for a comment. */
function dataOf(event) {
  return event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
}

/**
 * Asks once. `seen(text, tokens)` gets each piece, `tokens` being null without log-probabilities. Fills `answer`:
 * requestId, firstS (seconds to the first piece), finish, usage, rate (tokens a second after the first).
 */
export async function ask(body, signal, answer, seen) {
  const asked = performance.now();
  const response = await api("/v1/chat/completions", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
  });
  answer.requestId = response.headers.get("x-request-id");
  let first = 0;
  for await (const chunk of events(response)) {
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { requestId: answer.requestId });
    const choice = chunk.choices?.[0];
    const text = choice?.delta?.content;
    if (text) {
      first ||= performance.now();
      answer.firstS ??= (first - asked) / 1000;
      seen(text, choice.logprobs?.content ?? null);
    }
    answer.finish = choice?.finish_reason ?? answer.finish;
    answer.usage = chunk.usage ?? answer.usage;
  }
  answer.rate = rateOf(answer.usage, (performance.now() - first) / 1000);
}

/** Tokens a second after the first one; null where there were too few, or they came too fast to tell. */
function rateOf(usage, seconds) {
  const following = (usage?.completion_tokens ?? 0) - 1;
  return following > 0 && seconds >= 0.05 ? following / seconds : null;
}
