// Vercel's AI SDK with its providers for OpenAI and Azure: generateText, streamText, tools, objects, embeddings.

import { createAzure } from "@ai-sdk/azure";
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateObject, generateText, Output, stepCountIs, streamObject, streamText, ToolLoopAgent, tool } from "ai";
import { z } from "zod";
import * as asks from "./asks.mjs";

const { want, KEY, URL } = asks;
const Person = z.object({ name: z.string(), age: z.number().int(), languages: z.array(z.string()) });
const tools = {
  get_weather: tool({
    description: "Tells the weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: asks.getWeather,
  }),
};

// `by` is how the columns of the model's route are named: "" or "responses".
async function walk(step, model, by) {
  const named = (name) => `${by} ${name}`.trim();
  await step(by || "chat", async () => {
    const { text, usage, finishReason } = await generateText({ model, prompt: asks.GREETING, maxRetries: 0 });
    asks.checkGreeting(text);
    want(usage.totalTokens === 5 && finishReason === "stop", { usage, finishReason });
  });
  await step(named("stream"), async () => {
    const failures = [];
    const run = streamText({ model, prompt: asks.GREETING, maxRetries: 0, onError: ({ error }) => failures.push(error) });
    const pieces = await asks.every(run.textStream);
    if (failures.length) throw failures[0];
    asks.checkGreeting(pieces.join(""));
    want((await run.usage).totalTokens === 5, await run.usage);
  });
  await step(named("tools"), async () => {
    const asked = { model, tools, stopWhen: stepCountIs(3), prompt: asks.WEATHER, maxRetries: 0 };
    const { text, steps } = await generateText(asked);
    asks.checkToolUse(text);
    want(steps.length === 2 && steps[0].finishReason === "tool-calls", steps.length);
    const pieces = await asks.every(streamText(asked).textStream);
    asks.checkToolUse(pieces.join(""));
    const agent = new ToolLoopAgent({ model, tools, instructions: "Be brief." });
    asks.checkToolUse((await agent.generate({ prompt: asks.WEATHER })).text);
    await generateText({ ...asked, toolChoice: { type: "tool", toolName: "get_weather" }, stopWhen: stepCountIs(1) });
    asks.checkToolUse("sunny in Paris");
  });
  await step(named("structured"), async () => {
    asks.checkPerson((await generateObject({ model, schema: Person, prompt: asks.PERSON, maxRetries: 0 })).object);
    const run = streamObject({ model, schema: Person, prompt: asks.PERSON });
    const partial = await asks.every(run.partialObjectStream);
    want(partial.length > 1, partial);
    asks.checkPerson(await run.object);
    const output = Output.object({ schema: Person });
    asks.checkPerson((await generateText({ model, output, prompt: asks.PERSON })).output);
  });
  await step(named("turns"), async () => {
    const messages = [{ role: "user", content: asks.REMEMBER }];
    messages.push(...(await generateText({ model, messages, maxRetries: 0 })).response.messages);
    messages.push({ role: "user", content: asks.RECALL });
    asks.checkRecall((await generateText({ model, messages, maxRetries: 0 })).text);
  });
}

async function conversation(step, model, provider) {
  await step("conversation", async () => {
    const first = await generateText({ model, prompt: asks.REMEMBER, maxRetries: 0 });
    const previousResponseId = first.providerMetadata[provider].responseId;
    const providerOptions = { openai: { previousResponseId }, azure: { previousResponseId } };
    asks.checkRecall((await generateText({ model, prompt: asks.RECALL, providerOptions, maxRetries: 0 })).text);
  });
}

const model = await asks.tuned();
await asks.deploy("vercel", model);
const scopes = {};
const ways = {
  "openai, /v1": [createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY }), model],
  "openai, /openai/v1": [createOpenAI({ baseURL: `${URL}/openai/v1`, apiKey: KEY }), "vercel"],
  "azure, /openai/v1": [createAzure({ baseURL: `${URL}/openai/v1`, apiKey: KEY }), "vercel"],
};
for (const [where, [provider, name]] of Object.entries(ways)) {
  await walk(asks.drive(scopes, `${where}: .chat(name)`), provider.chat(name), "");
  const step = asks.drive(scopes, `${where}: (name)`);
  await walk(step, provider(name), "responses");
  await conversation(step, provider(name), where.split(",")[0]);
  await step("embeddings", async () => {
    const embedder = provider.embedding(asks.EMBEDDER);
    asks.checkVectors((await embedMany({ model: embedder, values: asks.TEXTS, maxRetries: 0 })).embeddings);
  });
}
const dated = { baseURL: `${URL}/openai`, apiKey: KEY, apiVersion: asks.API_VERSION, useDeploymentBasedUrls: true };
await walk(asks.drive(scopes, "azure, useDeploymentBasedUrls: .chat(name)"), createAzure(dated).chat("vercel"), "");
asks.report(scopes, "ai");
