// openai for Node: OpenAI on /v1 and /openai/v1, AzureOpenAI on /openai; the whole workflow and every error.

import { readFileSync, writeFileSync } from "node:fs";
import OpenAI, { AzureOpenAI, toFile } from "openai";

const { LUTHIER_URL: URL, LUTHIER_KEY: KEY, LUTHIER_MODEL: MODEL, LUTHIER_ARM_PATH: ARM_PATH } = process.env;
const API_VERSION = "2024-10-21";
const HELD_EPOCHS = 9; // drive.py says why

const ROWS = Array.from({ length: 10 }, (_, number) =>
  JSON.stringify({
    messages: [
      { role: "user", content: `What is ${number} plus one?` },
      { role: "assistant", content: `It is ${number + 1}.` },
    ],
  }),
).join("\n");

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function want(condition, what) {
  if (!condition) throw new Error(JSON.stringify(what) ?? "undefined");
}

async function every(listing) {
  const found = [];
  for await (const item of await listing) found.push(item);
  return found;
}

async function until(look, isDone) {
  for (let tries = 0; tries < 600; tries++) {
    const found = await look();
    if (isDone(found)) return found;
    await sleep(50);
  }
  throw new Error("never done");
}

async function arm(method, name, body) {
  const answer = await fetch(`${URL}${ARM_PATH}/${name}?api-version=2024-10-01`, {
    method,
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  want(answer.ok, text);
  return text ? JSON.parse(text) : null;
}

async function deploy(name, model) {
  const properties = { model: { format: "OpenAI", name: model, version: "1" } };
  await arm("PUT", name, { sku: { name: "standard", capacity: 1 }, properties });
  await until(() => arm("GET", name), (found) => found.properties.provisioningState === "Succeeded");
}

async function refused(status, asked) {
  try {
    await asked();
  } catch (error) {
    want(error.status === status && error.error?.message, String(error));
    want(error.headers.get("x-should-retry") === "false", "would be asked again");
    return;
  }
  throw new Error(`no ${status}`);
}

async function walk(step, make, dialect) {
  const client = make(KEY);
  const jobs = client.fineTuning.jobs;
  const upload = async () => client.files.create({ file: await toFile(Buffer.from(ROWS), "rows.jsonl"), purpose: "fine-tune" });
  let file, job, name;
  await step("files.create", async () => {
    file = await upload();
    want(file.bytes === ROWS.length, file);
    await upload();
  });
  await step("files.wait_for_processing", async () => want((await client.files.waitForProcessing(file.id)).status === "processed", file));
  await step("files.retrieve", async () => want((await client.files.retrieve(file.id)).filename === "rows.jsonl", file));
  await step("files.list, pages of 1", async () => {
    const ids = (await every(client.files.list({ limit: 1 }))).map((one) => one.id);
    want(ids.includes(file.id) && new Set(ids).size === ids.length, ids);
  });
  await step("files.content", async () => want((await (await client.files.content(file.id)).text()) === ROWS, "other bytes"));
  const reach = (id, ...words) => until(() => jobs.retrieve(id), (found) => words.includes(found.status));
  await step("jobs.create", async () => {
    job = await jobs.create({ training_file: file.id, model: MODEL, suffix: "node", seed: 105 });
    const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } };
    await reach((await jobs.create({ training_file: file.id, model: MODEL, method })).id, "succeeded");
  });
  await step("jobs.retrieve until succeeded", async () => {
    job = await reach(job.id, "succeeded", "failed");
    want(job.status === "succeeded" && job.fine_tuned_model, job);
  });
  await step("jobs.list, pages of 1", async () => {
    const ids = (await every(jobs.list({ limit: 1 }))).map((one) => one.id);
    want(ids.includes(job.id) && new Set(ids).size === ids.length, ids);
  });
  await step("jobs.list_events, pages of 2", async () => {
    const ids = (await every(jobs.listEvents(job.id, { limit: 2 }))).map((one) => one.id);
    want(ids.length > 4 && new Set(ids).size === ids.length, ids);
  });
  await step("jobs.checkpoints.list", async () => {
    const steps = (await every(jobs.checkpoints.list(job.id, { limit: 1 }))).map((one) => one.step_number);
    want(steps.join() === "4,2", steps);
  });
  await step("result file content", async () => {
    const sent = await (await client.files.content(job.result_files[0])).text();
    const isOpenAI = !String(client.baseURL).includes("/openai");
    const text = isOpenAI ? Buffer.from(sent, "base64").toString() : sent; // base64 as from OpenAI
    want(text.startsWith("step,train_loss"), text.slice(0, 80));
  });
  const hold = async () => {
    const made = await jobs.create({ training_file: file.id, model: MODEL, hyperparameters: { n_epochs: HELD_EPOCHS } });
    await reach(made.id, "running");
    return made.id;
  };
  await step("jobs.cancel", async () => want((await jobs.cancel(await hold())).status === "cancelled", "not cancelled"));
  await step("jobs.pause, jobs.resume", async () => {
    const held = await hold();
    await jobs.pause(held);
    await reach(held, "paused");
    await jobs.resume(held);
    await reach(held, "running");
    await jobs.cancel(held);
  });
  await step("models.list", async () => {
    const ids = (await every(client.models.list())).map((one) => one.id);
    want(ids.includes(job.fine_tuned_model), ids);
  });
  await step("models.retrieve", async () => want((await client.models.retrieve(job.fine_tuned_model)).id, "no model"));
  name = job.fine_tuned_model;
  if (dialect !== "openai") {
    name = `node-${dialect.replace("_", "-")}`;
    await step("deployment", () => deploy(name, job.fine_tuned_model));
  }
  const asked = { model: name, messages: [{ role: "user", content: "hi" }], max_tokens: 5 };
  await step("chat", async () => want((await client.chat.completions.create(asked)).usage.total_tokens === 5, "no usage"));
  await step("chat, streamed", async () => {
    const pieces = await every(client.chat.completions.create({ ...asked, stream: true }));
    const text = pieces.map((piece) => piece.choices[0]?.delta.content ?? "").join("");
    want(JSON.parse(text).messages.at(-1).content === "hi", text);
  });
  await step("completions", async () => want((await client.completions.create({ model: name, prompt: "hi", max_tokens: 5 })).object === "text_completion", "no text"));
  await step("error 401", () => refused(401, () => make("wrong").fineTuning.jobs.retrieve(job.id)));
  await step("error 404", () => refused(404, () => jobs.retrieve("ftjob-none")));
  await step("error 400", () => refused(400, () => jobs.create({ training_file: file.id, model: MODEL, hyperparameters: { n_epochs: 0 } })));
  await step("error 409", () => refused(409, () => jobs.cancel(job.id)));
  await step("uploads.create, parts, complete", async () => {
    const about = { bytes: ROWS.length, filename: "parts.jsonl", mime_type: "application/jsonl", purpose: "fine-tune" };
    const made = await client.uploads.create(about);
    const part = await client.uploads.parts.create(made.id, { data: await toFile(Buffer.from(ROWS), "part") });
    want((await client.uploads.complete(made.id, { part_ids: [part.id] })).status === "completed", made);
  });
  if (dialect !== "openai") await arm("DELETE", name);
  await step("models.delete", async () => want((await client.models.delete(job.fine_tuned_model)).deleted, "not deleted"));
  await step("files.delete", async () => want((await client.files.delete(file.id)).deleted, "not deleted"));
}

const ways = {
  openai: (apiKey) => new OpenAI({ baseURL: `${URL}/v1`, apiKey }),
  azure_v1: (apiKey) => new OpenAI({ baseURL: `${URL}/openai/v1/`, apiKey }),
  azure: (apiKey) => new AzureOpenAI({ endpoint: URL, apiKey, apiVersion: API_VERSION }),
};
const outcomes = {};
for (const [dialect, make] of Object.entries(ways)) {
  const found = (outcomes[dialect] = {});
  const step = async (name, act) => {
    try {
      await act();
      found[name] = "ok";
    } catch (error) {
      found[name] = `${error.name}: ${error.message}`.slice(0, 300);
    }
  };
  await step("(all)", () => walk(step, make, dialect));
  if (found["(all)"] === "ok") delete found["(all)"];
}
const version = JSON.parse(readFileSync(new globalThis.URL("node_modules/openai/package.json", import.meta.url), "utf8")).version;
writeFileSync(process.env.LUTHIER_OUTCOMES, JSON.stringify({ version, outcomes }, null, 1) + "\n");
