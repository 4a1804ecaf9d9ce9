// What drive.py and asks.py are to Python, for programs that Node runs: steps, a tuned model, the matrix's questions.

import { readFileSync, writeFileSync } from "node:fs";

export const { LUTHIER_URL: URL, LUTHIER_KEY: KEY, LUTHIER_MODEL: MODEL, LUTHIER_ARM_PATH: ARM_PATH } = process.env;
export const EMBEDDER = process.env.LUTHIER_EMBEDDER;
export const API_VERSION = "2024-10-21";

export const GREETING = "hi";
export const WEATHER = 'What is the weather? {"city": "Paris"}';
export const PERSON = 'Who is it? {"name": "Ada", "age": 36, "languages": ["English", "French"]}';
export const REMEMBER = "Remember the word zebra.";
export const RECALL = "Which word was it?";
export const TEXTS = ["the first text", "another text", "the first text"];
const ADA = { name: "Ada", age: 36, languages: ["English", "French"] };

export function want(condition, what) {
  if (!condition) throw new Error(JSON.stringify(what) ?? "undefined");
}

export async function every(listing) {
  const found = [];
  for await (const item of await listing) found.push(item);
  return found;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const askedOf = [];

export function getWeather({ city }) {
  askedOf.push(city);
  return `sunny in ${city}`;
}

export function checkTurns(text, asked) {
  const turns = JSON.parse(text).messages.filter((turn) => turn.role === "user");
  want(same(turns.map((turn) => turn.content), asked), turns);
}

export const checkGreeting = (text) => checkTurns(text, [GREETING]);

export function checkToolUse(text) {
  const cities = askedOf.splice(0);
  want(same(cities, ["Paris"]) && text.includes("sunny in Paris"), { cities, text });
}

export function checkPerson(person) {
  want(Object.keys(ADA).every((name) => same(person[name], ADA[name])), person);
}

export function checkRecall(text) {
  checkTurns(text, [REMEMBER, RECALL]);
  want(JSON.parse(text).messages.some((turn) => turn.role === "assistant"), text);
}

export function checkVectors([first, second, third]) {
  want(same(first, third) && !same(first, second) && first.length === second.length && first.length > 1, first.slice(0, 4));
}

// As rest() of drive.py: status and decoded body.
export async function rest(method, path, body) {
  const form = body instanceof FormData;
  const head = { authorization: `Bearer ${KEY}`, ...(form ? {} : { "content-type": "application/json" }) };
  const answer = await fetch(URL + path, { method, headers: head, body: form ? body : body && JSON.stringify(body) });
  const text = await answer.text();
  return [answer.status, text ? JSON.parse(text) : null];
}

export async function until(look, isDone) {
  for (let tries = 0; tries < 600; tries++) {
    const found = await look();
    if (isDone(found)) return found;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("never done");
}

export async function tuned() {
  const rows = Array.from({ length: 10 }, (_, number) => {
    const messages = [
      { role: "user", content: `What is ${number} plus one?` },
      { role: "assistant", content: `It is ${number + 1}.` },
    ];
    return JSON.stringify({ messages });
  });
  const form = new FormData();
  form.set("purpose", "fine-tune");
  form.set("file", new Blob([rows.join("\n")]), "rows.jsonl");
  const [, file] = await rest("POST", "/v1/files", form);
  const [, job] = await rest("POST", "/v1/fine_tuning/jobs", { model: MODEL, training_file: file.id });
  const look = async () => (await rest("GET", `/v1/fine_tuning/jobs/${job.id}`))[1];
  return (await until(look, (found) => found.status === "succeeded")).fine_tuned_model;
}

export async function deploy(name, model) {
  const path = `${ARM_PATH}/${name}?api-version=2024-10-01`;
  const properties = { model: { format: "OpenAI", name: model, version: "1" } };
  await rest("PUT", path, { sku: { name: "standard", capacity: 1 }, properties });
  const look = async () => (await rest("GET", path))[1].properties.provisioningState;
  want((await until(look, (state) => ["Succeeded", "Failed"].includes(state))) === "Succeeded", "failed");
}

// A scope's steps: `step(name, act)` writes down how `act` ended, and goes on.
export function drive(scopes, scope) {
  const outcomes = (scopes[scope] = {});
  return async (name, act) => {
    await rest("GET", `/tests/step?${new URLSearchParams({ scope, name })}`);
    try {
      await act();
      outcomes[name] = "ok";
    } catch (error) {
      const text = `${error.name}: ${error.message}${error.responseBody ?? ""}`;
      outcomes[name] = text.slice(0, 400);
    }
  };
}

export function report(scopes, folder) {
  const file = new globalThis.URL(`node_modules/${folder}/package.json`, import.meta.url);
  const { version } = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(process.env.LUTHIER_OUTCOMES, JSON.stringify({ version, outcomes: scopes }, null, 1) + "\n");
}
