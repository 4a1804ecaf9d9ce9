// OpenAI Agents for JavaScript: agents by Responses, which is its default, and by chat completions, on each base URL.

import {
  Agent,
  MemorySession,
  OpenAIChatCompletionsModel,
  OpenAIConversationsSession,
  OpenAIProvider,
  OpenAIResponsesModel,
  run,
  Runner,
  setTracingDisabled,
  tool,
} from "@openai/agents";
import OpenAI, { AzureOpenAI } from "openai";
import { z } from "zod";
import * as asks from "./asks.mjs";

const { want, KEY, URL } = asks;
const Person = z.object({ name: z.string(), age: z.number().int(), languages: z.array(z.string()) });
const weather = tool({
  name: "get_weather",
  description: "Tells the weather of a city",
  parameters: z.object({ city: z.string() }),
  execute: asks.getWeather,
});

async function streamed(agent, prompt, runner) {
  const answer = await runner.run(agent, prompt, { stream: true });
  const pieces = await asks.every(answer.toTextStream());
  await answer.completed;
  want(pieces.join("") === answer.finalOutput, { pieces, end: answer.finalOutput });
  return answer.finalOutput;
}

// `by` is how the columns of the model's route are named: "" or "responses".
async function walk(step, model, by, runner = new Runner()) {
  const named = (name) => `${by} ${name}`.trim();
  const about = { name: "Helper", instructions: "Be brief.", model };
  const agent = new Agent(about);
  await step(by || "chat", async () => asks.checkGreeting((await runner.run(agent, asks.GREETING)).finalOutput));
  await step(named("stream"), async () => asks.checkGreeting(await streamed(agent, asks.GREETING, runner)));
  await step(named("tools"), async () => {
    const helper = new Agent({ ...about, tools: [weather] });
    asks.checkToolUse((await runner.run(helper, asks.WEATHER)).finalOutput);
    asks.checkToolUse(await streamed(helper, asks.WEATHER, runner));
    const desk = Agent.create({ name: "Desk", model, handoffs: [helper] });
    const answer = await runner.run(desk, asks.WEATHER);
    asks.checkToolUse(answer.finalOutput);
    want(answer.lastAgent.name === "Helper", answer.lastAgent.name);
  });
  await step(named("structured"), async () => {
    const typed = new Agent({ ...about, outputType: Person });
    asks.checkPerson((await runner.run(typed, asks.PERSON)).finalOutput);
  });
  await step(named("turns"), async () => {
    const session = new MemorySession();
    await runner.run(agent, asks.REMEMBER, { session });
    asks.checkRecall((await runner.run(agent, asks.RECALL, { session })).finalOutput);
  });
}

async function conversations(step, model, client) {
  const agent = new Agent({ name: "Helper", instructions: "Be brief.", model });
  await step("conversation", async () => {
    const { lastResponseId } = await run(agent, asks.REMEMBER);
    asks.checkRecall((await run(agent, asks.RECALL, { previousResponseId: lastResponseId })).finalOutput);
  });
  await step("conversations", async () => {
    const session = new OpenAIConversationsSession({ client });
    await run(agent, asks.REMEMBER, { session });
    asks.checkRecall((await run(agent, asks.RECALL, { session })).finalOutput);
  });
}

setTracingDisabled(true); // traces go to OpenAI's own host
const model = await asks.tuned();
await asks.deploy("agentjs", model);
const scopes = {};
const modelProvider = new OpenAIProvider({ baseURL: `${URL}/v1`, apiKey: KEY });
await walk(asks.drive(scopes, "as it comes, /v1"), model, "responses", new Runner({ modelProvider }));
const ways = {
  "/v1": [new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY }), model],
  "/openai/v1": [new OpenAI({ baseURL: `${URL}/openai/v1/`, apiKey: KEY }), "agentjs"],
  AzureOpenAI: [new AzureOpenAI({ endpoint: URL, apiKey: KEY, apiVersion: asks.API_VERSION }), "agentjs"],
};
for (const [where, [client, name]] of Object.entries(ways)) {
  await walk(asks.drive(scopes, `OpenAIChatCompletionsModel, ${where}`), new OpenAIChatCompletionsModel(client, name), "");
  const step = asks.drive(scopes, `OpenAIResponsesModel, ${where}`);
  const responses = new OpenAIResponsesModel(client, name);
  await walk(step, responses, "responses");
  await conversations(step, responses, client);
}
asks.report(scopes, "@openai/agents");
