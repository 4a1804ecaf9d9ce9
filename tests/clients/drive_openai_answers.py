"""The official Python SDK, newest: answers of both routes, tools, schemas, embeddings and batches, sync and async."""

import asyncio
import inspect
import json
from typing import Any

import asks
import openai
from drive import API_VERSION, EMBEDDER, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from pydantic import BaseModel

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
ABOUT = {"name": "get_weather", "description": "Of a city", "parameters": PARAMETERS, "strict": True}


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


async def got(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def streamed(manager: Any) -> tuple[list[Any], Any]:
    """All events of the SDK's helper for streams, and the answer that it has made of them."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            events = [event async for event in stream]
            last = stream.get_final_completion if hasattr(stream, "get_final_completion") else stream.get_final_response
            return events, await last()
    with manager as stream:
        events = list(stream)
        last = stream.get_final_completion if hasattr(stream, "get_final_completion") else stream.get_final_response
        return events, last()


class Walk:
    """All steps with one client in one mode; `model` is what answers, `embedder` what embeds."""

    def __init__(self, drive: Drive, client: Any, model: str, embedder: str) -> None:
        self.drive, self.client, self.model, self.embedder = drive, client, model, embedder
        # Its strict check takes no base64, which it asks for by itself when it embeds.
        is_strict = client._strict_response_validation
        self.lenient = type(client)(base_url=client.base_url, api_key=KEY) if is_strict else client

    async def run(self) -> None:
        await self.chat()
        await self.responses()
        await self.stored()
        await self.others()

    async def ask(self, messages: list[Any], **more: Any) -> Any:
        answer = await got(self.client.chat.completions.create(model=self.model, messages=messages, **more))
        return answer.choices[0].message

    async def chat(self) -> None:
        step, chat = self.drive.step, self.client.chat.completions
        hi = [{"role": "user", "content": asks.GREETING}]
        with step("chat"):
            asks.check_greeting((await self.ask(hi)).content)
        with step("stream"):
            events, answer = await streamed(chat.stream(model=self.model, messages=hi))
            asks.check_greeting(answer.choices[0].message.content)
            want("content.delta" in {event.type for event in events}, events[:2])
        with step("tools"):
            tools: Any = [{"type": "function", "function": ABOUT}]
            turns: list[Any] = [{"role": "user", "content": asks.WEATHER}]
            answer = await self.ask(turns, tools=tools)
            turns.append(answer)
            for call in answer.tool_calls:
                result = asks.get_weather(**json.loads(call.function.arguments))
                turns.append({"role": "tool", "tool_call_id": call.id, "content": result})
            asks.check_tool_use((await self.ask(turns, tools=tools)).content)
        with step("structured"):
            turns = [{"role": "user", "content": asks.PERSON}]
            parsed = await got(chat.parse(model=self.model, messages=turns, response_format=Person))
            asks.check_person(parsed.choices[0].message.parsed)
        with step("turns"):
            turns = [{"role": "user", "content": asks.REMEMBER}]
            turns += [await self.ask(turns), {"role": "user", "content": asks.RECALL}]
            asks.check_recall((await self.ask(turns)).content)

    async def respond(self, input: Any, **more: Any) -> Any:
        return await got(self.client.responses.create(model=self.model, input=input, **more))

    async def responses(self) -> None:
        step, responses = self.drive.step, self.client.responses
        with step("responses"):
            answer = await self.respond(asks.GREETING)
            asks.check_greeting(answer.output_text)
            want(answer.status == "completed" and answer.usage.total_tokens == 5, answer)
        with step("responses stream"):
            events, answer = await streamed(responses.stream(model=self.model, input=asks.GREETING))
            asks.check_greeting(answer.output_text)
            asks.check_greeting("".join(one.delta for one in events if one.type == "response.output_text.delta"))
            want([one.sequence_number for one in events] == list(range(len(events))), events)
        with step("responses tools"):
            tools: Any = [{"type": "function", **ABOUT}]
            items: list[Any] = [{"role": "user", "content": asks.WEATHER}]
            answer = await self.respond(items, tools=tools)
            items += answer.output
            for call in answer.output:
                if call.type == "function_call":
                    result = asks.get_weather(**json.loads(call.arguments))
                    items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
            asks.check_tool_use((await self.respond(items, tools=tools)).output_text)
        with step("responses structured"):
            answer = await got(responses.parse(model=self.model, input=asks.PERSON, text_format=Person))
            asks.check_person(answer.output_parsed)

        with step("responses turns"):
            items = [{"role": "user", "content": asks.REMEMBER}]
            items += (await self.respond(items, store=False)).output
            items.append({"role": "user", "content": asks.RECALL})
            asks.check_recall((await self.respond(items, store=False)).output_text)

    async def stored(self) -> None:
        step, responses = self.drive.step, self.client.responses
        with step("conversation"):
            first = await self.respond(asks.REMEMBER, instructions="Be brief.")
            second = await self.respond(asks.RECALL, previous_response_id=first.id)
            asks.check_recall(second.output_text)
            want("Be brief." not in second.output_text.split(asks.REMEMBER)[0], "instructions were carried over")
        with step("responses.retrieve"):
            made = await self.respond(asks.GREETING)
            again = await got(responses.retrieve(made.id))
            want(again.output_text == made.output_text, again)
        with step("responses.input_items.list"):
            made = await self.respond(asks.GREETING)
            listing = responses.input_items.list(made.id)
            items = [one async for one in listing] if hasattr(listing, "__aiter__") else list(listing)
            want([item.content[0].text for item in items] == [asks.GREETING], items)
        with step("responses.delete"):
            made = await self.respond(asks.GREETING)
            await got(responses.delete(made.id))
            try:
                await got(responses.retrieve(made.id))
            except openai.NotFoundError:
                pass
            else:
                raise AssertionError("still there")
        with step("conversations"):
            made = await got(self.client.conversations.create())
            await self.respond(asks.REMEMBER, conversation=made.id)
            asks.check_recall((await self.respond(asks.RECALL, conversation=made.id)).output_text)

    async def others(self) -> None:
        step, client = self.drive.step, self.client
        with step("embeddings"):
            for more in ({}, {"encoding_format": "float"}):
                made = await got(self.lenient.embeddings.create(model=self.embedder, input=asks.TEXTS, **more))
                asks.check_vectors([one.embedding for one in made.data])
        with step("batches"):
            lines = asks.batch_lines(self.model)
            file = await got(client.files.create(file=("asks.jsonl", lines), purpose="batch"))
            endpoint = "/v1/chat/completions"
            batch = await got(client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h"))
            for _ in range(600):
                batch = await got(client.batches.retrieve(batch.id))
                if batch.status in ("completed", "failed", "expired", "cancelled"):
                    break
                await asyncio.sleep(0.1)
            want(batch.status == "completed" and batch.request_counts.completed == 2, batch)
            asks.check_batch_output((await got(client.files.content(batch.output_file_id))).read())


def clients() -> dict[str, tuple[Any, bool]]:
    """By scope: the client as its documentation makes it, and whether it names deployments."""
    azure: dict[str, Any] = {"azure_endpoint": URL, "api_key": KEY, "api_version": API_VERSION}
    v1, azure_v1 = {"base_url": f"{URL}/v1", "api_key": KEY}, {"base_url": f"{URL}/openai/v1/", "api_key": KEY}
    return {
        "OpenAI": (openai.OpenAI(**v1, _strict_response_validation=True), False),
        "AsyncOpenAI": (openai.AsyncOpenAI(**v1, _strict_response_validation=True), False),
        "OpenAI on /openai/v1": (openai.OpenAI(**azure_v1), True),
        "AsyncOpenAI on /openai/v1": (openai.AsyncOpenAI(**azure_v1), True),
        "AzureOpenAI": (openai.AzureOpenAI(**azure), True),
        "AsyncAzureOpenAI": (openai.AsyncAzureOpenAI(**azure), True),
    }


def main() -> None:
    model, scopes = tuned(), {}
    deploy("ask", model)
    for scope, (client, names_deployments) in clients().items():
        drive = scopes[scope] = Drive(scope)
        asyncio.run(Walk(drive, client, "ask" if names_deployments else model, EMBEDDER).run())
    report(openai.__version__, scopes)


if __name__ == "__main__":
    main()
