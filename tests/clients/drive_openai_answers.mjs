// openai for Node: answers of both routes, tools, schemas, embeddings and batches, in every dialect.

import OpenAI, { AzureOpenAI, toFile } from "openai";
import * as asks from "./asks.mjs";

const { want, KEY, URL } = asks;
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const about = { name: "get_weather", description: "Of a city", parameters, strict: true };
const schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    age: { type: "integer" },
    languages: { type: "array", items: { type: "string" } },
  },
  required: ["name", "age", "languages"],
  additionalProperties: false,
};
const user = (content) => ({ role: "user", content });

async function chat(step, { chat: { completions } }, model) {
  const ask = async (messages, more = {}) => (await completions.create({ model, messages, ...more })).choices[0].message;
  await step("chat", async () => asks.checkGreeting((await ask([user(asks.GREETING)])).content));
  await step("stream", async () => {
    const stream = completions.stream({ model, messages: [user(asks.GREETING)] });
    const pieces = (await asks.every(stream)).map((piece) => piece.choices[0]?.delta.content ?? "");
    asks.checkGreeting(pieces.join(""));
    asks.checkGreeting(await stream.finalContent());
  });
  await step("tools", async () => {
    const run = { ...about, parse: JSON.parse, function: asks.getWeather };
    const tools = [{ type: "function", function: run }];
    const runner = completions.runTools({ model, messages: [user(asks.WEATHER)], tools });
    asks.checkToolUse(await runner.finalContent());
    const streamed = completions.runTools({ model, messages: [user(asks.WEATHER)], tools, stream: true });
    asks.checkToolUse(await streamed.finalContent());
  });
  await step("structured", async () => {
    const response_format = { type: "json_schema", json_schema: { name: "person", schema, strict: true } };
    const answer = await completions.parse({ model, messages: [user(asks.PERSON)], response_format });
    asks.checkPerson(answer.choices[0].message.parsed);
  });
  await step("turns", async () => {
    const messages = [user(asks.REMEMBER)];
    messages.push(await ask(messages), user(asks.RECALL));
    asks.checkRecall((await ask(messages)).content);
  });
}

async function respond(step, { responses }, model) {
  const ask = (input, more = {}) => responses.create({ model, input, ...more });
  await step("responses", async () => {
    const answer = await ask(asks.GREETING);
    asks.checkGreeting(answer.output_text);
    want(answer.status === "completed" && answer.usage.total_tokens === 5, answer);
  });
  await step("responses stream", async () => {
    const stream = responses.stream({ model, input: asks.GREETING });
    const events = await asks.every(stream);
    asks.checkGreeting(events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta).join(""));
    asks.checkGreeting((await stream.finalResponse()).output_text);
  });
  await step("responses tools", async () => {
    const tools = [{ type: "function", ...about }];
    const items = [user(asks.WEATHER)];
    const first = await ask(items, { tools });
    items.push(...first.output);
    for (const call of first.output.filter(({ type }) => type === "function_call")) {
      const output = asks.getWeather(JSON.parse(call.arguments));
      items.push({ type: "function_call_output", call_id: call.call_id, output });
    }
    asks.checkToolUse((await ask(items, { tools })).output_text);
  });
  await step("responses structured", async () => {
    const text = { format: { type: "json_schema", name: "person", schema, strict: true } };
    asks.checkPerson((await responses.parse({ model, input: asks.PERSON, text })).output_parsed);
  });
  await step("responses turns", async () => {
    const items = [user(asks.REMEMBER)];
    items.push(...(await ask(items, { store: false })).output, user(asks.RECALL));
    asks.checkRecall((await ask(items, { store: false })).output_text);
  });
  await step("conversation", async () => {
    const first = await ask(asks.REMEMBER);
    asks.checkRecall((await ask(asks.RECALL, { previous_response_id: first.id })).output_text);
  });
  await step("responses.retrieve", async () => {
    const made = await ask(asks.GREETING);
    want((await responses.retrieve(made.id)).output_text === made.output_text, made);
  });
  await step("responses.input_items.list", async () => {
    const items = await asks.every(responses.inputItems.list((await ask(asks.GREETING)).id));
    want(items.length === 1 && items[0].content[0].text === asks.GREETING, items);
  });
  await step("responses.delete", async () => {
    const made = await ask(asks.GREETING);
    await responses.delete(made.id);
    const error = await responses.retrieve(made.id).catch((failure) => failure);
    want(error.status === 404, String(error));
  });
}

async function others(step, client, model, embedder) {
  await step("embeddings", async () => {
    for (const more of [{}, { encoding_format: "float" }]) {
      const made = await client.embeddings.create({ model: embedder, input: asks.TEXTS, ...more });
      asks.checkVectors(made.data.map((one) => one.embedding));
    }
  });
  await step("batches", async () => {
    const lines = [1, 2].map((number) => {
      const body = { model, messages: [user(`question ${number}`)] };
      return JSON.stringify({ custom_id: `ask-${number}`, method: "POST", url: "/v1/chat/completions", body });
    });
    const file = await client.files.create({ file: await toFile(Buffer.from(lines.join("\n")), "asks.jsonl"), purpose: "batch" });
    const asked = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
    const { id } = await client.batches.create(asked);
    const isDone = ({ status }) => ["completed", "failed", "expired", "cancelled"].includes(status);
    const batch = await asks.until(() => client.batches.retrieve(id), isDone);
    want(batch.status === "completed" && batch.request_counts.completed === 2, batch);
    const output = await (await client.files.content(batch.output_file_id)).text();
    for (const line of output.trim().split("\n").map(JSON.parse)) {
      want(line.response.status_code === 200, line);
      asks.checkTurns(line.response.body.choices[0].message.content, [`question ${line.custom_id.at(-1)}`]);
    }
  });
}

const model = await asks.tuned();
await asks.deploy("node", model);
const scopes = {};
const ways = {
  OpenAI: [new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY }), model],
  "OpenAI on /openai/v1": [new OpenAI({ baseURL: `${URL}/openai/v1/`, apiKey: KEY }), "node"],
  AzureOpenAI: [new AzureOpenAI({ endpoint: URL, apiKey: KEY, apiVersion: asks.API_VERSION }), "node"],
};
for (const [scope, [client, name]] of Object.entries(ways)) {
  const step = asks.drive(scopes, scope);
  await chat(step, client, name);
  await respond(step, client, name);
  await others(step, client, name, asks.EMBEDDER);
}
asks.report(scopes, "openai");
