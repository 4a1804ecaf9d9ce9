// What columns without a first token wait for, asked of GET /luthier/engines while there are any.
import { api } from "../portal.js";

const FIRST_MS = 400, EVERY_MS = 1500;
const WORDS = {
  ready: "waiting its turn", resting: "loading the model", loading: "loading the model",
  restarting: "its engine starts anew", unresponsive: "its engine does not answer yet",
};

/** Tells each waiting column what is known of its model, until none waits. */
export async function watch(columns) {
  for (let delay = FIRST_MS; ; delay = EVERY_MS) {
    await new Promise((resolve) => { setTimeout(resolve, delay); });
    const waiting = columns.filter((column) => column.isWaiting);
    if (waiting.length === 0) return;
    if (document.hidden) continue;
    const engines = await list();
    for (const column of waiting) {
      const known = engines.find((one) => one.deployment === column.deployment || one.model === column.model);
      if (column.isWaiting) column.tell(WORDS[known?.state] ?? "loading the model or waiting its turn", "busy");
    }
  }
}

async function list() {
  try { return (await (await api("/luthier/engines")).json()).data; } catch { return []; }
}
