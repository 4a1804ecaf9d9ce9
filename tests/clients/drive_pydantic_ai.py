"""pydantic-ai: agents by its two models for OpenAI and the two for Azure, embeddings and batches."""

import asyncio
import os
from datetime import timedelta
from importlib import metadata
from typing import Any

import asks
from drive import API_VERSION, EMBEDDER, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, ModelRequest, NativeOutput
from pydantic_ai.direct import model_request_batch
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.batch import BatchRequest
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.azure import AzureProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


async def streamed(agent: Any, prompt: str) -> Any:
    async with agent.run_stream(prompt) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        want(len(pieces) > 1, pieces)
        return "".join(pieces)


async def streamed_person(agent: Any) -> Any:
    async with agent.run_stream(asks.PERSON) as run:
        partial = [person async for person in run.stream_output(debounce_by=None)]
        want(partial, "nothing came")
        return await run.get_output()


async def walk(drive: Drive, model: Any, by: str) -> None:
    """The steps of one model; `by` is how the columns of its route are named: "" or "responses"."""
    agent = Agent(model, instructions="Be brief.")
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured", "turns")}
    with drive.step(by or "chat"):
        run = await agent.run(asks.GREETING)
        asks.check_greeting(run.output)
        want(run.usage.total_tokens == 5, run.usage)
    with drive.step(names["stream"]):
        typed = Agent(model, output_type=NativeOutput(Person))
        asks.check_person(await streamed_person(typed))
        async with agent.run_stream(asks.GREETING) as run:
            asks.check_greeting(await run.get_output())
    with drive.step(names["tools"]):
        helper = Agent(model, tools=[asks.get_weather])
        asks.check_tool_use((await helper.run(asks.WEATHER)).output)
        asks.check_tool_use(await streamed(helper, asks.WEATHER))
    with drive.step(names["structured"]):
        # As it comes, the answer is a call of a tool; NativeOutput asks for a schema.
        asks.check_person((await Agent(model, output_type=Person).run(asks.PERSON)).output)
        asks.check_person((await Agent(model, output_type=NativeOutput(Person)).run(asks.PERSON)).output)
        both = Agent(model, output_type=Person, tools=[asks.get_weather])
        question = f"{asks.WEATHER} {asks.PERSON}"
        asks.check_person((await both.run(question)).output)
        want(asks.asked_of == ["Paris"], asks.asked_of)
        asks.asked_of.clear()
    with drive.step(names["turns"]):
        first = await agent.run(asks.REMEMBER)
        asks.check_recall((await agent.run(asks.RECALL, message_history=first.all_messages())).output)


async def conversation(drive: Drive, model: Any) -> None:
    """The server keeps the turns: only the new one is sent, and within a run only the tool's result."""
    settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    with drive.step("conversation"):
        agent = Agent(model, model_settings=settings)
        first = await agent.run(asks.REMEMBER)
        asks.check_recall((await agent.run(asks.RECALL, message_history=first.all_messages())).output)
        helper = Agent(model, tools=[asks.get_weather], model_settings=settings)
        asks.check_tool_use((await helper.run(asks.WEATHER)).output)


async def others(drive: Drive, provider: Any, embedder: str) -> None:
    with drive.step("embeddings"):
        made = await Embedder(OpenAIEmbeddingModel(embedder, provider=provider)).embed_documents(asks.TEXTS)
        asks.check_vectors(made.embeddings)


async def batch(drive: Drive, model: Any) -> None:
    with drive.step("batches"):
        prompts = ["question 1", "question 2"]
        asked = [
            BatchRequest(custom_id=f"ask-{number}", messages=[ModelRequest.user_text_prompt(prompt)])
            for number, prompt in enumerate(prompts)
        ]
        answers = await model_request_batch(model, asked, poll_interval=timedelta(seconds=0.2))
        for prompt, answer in zip(prompts, answers, strict=True):
            asks.check_turns(str(answer) if isinstance(answer, Exception) else answer.text, [prompt])


async def main() -> None:
    model, scopes = tuned(), {}
    deploy("pydantic", model)
    ways = {
        "OpenAIProvider, /v1": (OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY), model),
        "OpenAIProvider, /openai/v1": (OpenAIProvider(base_url=f"{URL}/openai/v1", api_key=KEY), "pydantic"),
        "AzureProvider": (AzureProvider(azure_endpoint=URL, api_version=API_VERSION, api_key=KEY), "pydantic"),
        "AzureProvider, /openai/v1": (AzureProvider(azure_endpoint=f"{URL}/openai/v1", api_key=KEY), "pydantic"),
    }
    for where, (provider, name) in ways.items():
        for kind, by in ((OpenAIChatModel, ""), (OpenAIResponsesModel, "responses")):
            scope = f"{kind.__name__}, {where}"
            drive = scopes[scope] = Drive(scope)
            made = kind(name, provider=provider)
            await walk(drive, made, by)
            if by:
                await conversation(drive, made)
                await others(drive, provider, EMBEDDER)
            if by and where.startswith("OpenAIProvider"):  # the one pair that has them
                await batch(drive, made)
    await by_name(scopes, model)
    report(metadata.version("pydantic-ai-slim"), scopes)


async def by_name(scopes: dict[str, Drive], model: str) -> None:
    """As its pages show it: a model's name, and the rest from the environment."""
    os.environ |= {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": KEY, "OPENAI_API_VERSION": API_VERSION}
    os.environ |= {"AZURE_OPENAI_ENDPOINT": URL, "AZURE_OPENAI_API_KEY": KEY}
    for name, by in ((f"openai:{model}", "responses"), ("azure:pydantic", "")):
        scope = f"{name.partition(':')[0]}:NAME"
        drive = scopes[scope] = Drive(scope)
        await walk(drive, name, by)


if __name__ == "__main__":
    asyncio.run(main())
