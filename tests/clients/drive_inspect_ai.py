"""inspect-ai: evaluations by both routes of its provider for OpenAI, of that for Azure and of that for any server."""

import asyncio
import json
import os
from importlib import metadata
from typing import Any

import asks
from drive import API_VERSION, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from inspect_ai import Task, eval_async
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    BatchConfig,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ResponseSchema,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool
from inspect_ai.util import json_schema
from pydantic import BaseModel

os.environ["INSPECT_DISPLAY"] = "none"


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


@tool
def get_weather() -> Any:
    async def execute(city: str) -> str:
        """Tells the weather of a city.

        Args:
            city: Name of the city.
        """
        return asks.get_weather(city)

    return execute


async def evaluated(task: Task, model: Model, **more: Any) -> Any:
    """The one log of an evaluation that has ended well."""
    (log,) = await eval_async(task, model=model, log_dir="logs", **more)
    want(log.status == "success", log.error)
    return log


async def walk(drive: Drive, model: Model, by: str) -> None:
    """The steps of one model; `by` is how the columns of its route are named: "" or "responses"."""
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured", "turns")}
    with drive.step(by or "chat"):
        answer = await model.generate(asks.GREETING)
        asks.check_greeting(answer.completion)
        want(answer.usage.total_tokens == 5, answer.usage)
        samples = [Sample(asks.GREETING, target="messages"), Sample(asks.GREETING, target="nowhere")]
        log = await evaluated(Task(samples, solver=generate(), scorer=includes()), model)
        want(log.results.scores[0].metrics["accuracy"].value == 0.5, log.results)
    with drive.step(names["tools"]):
        sample = [Sample(asks.WEATHER, target="sunny in Paris")]
        log = await evaluated(Task(sample, solver=[use_tools(get_weather()), generate()], scorer=includes()), model)
        asks.check_tool_use(log.samples[0].output.completion)
        want(log.results.scores[0].metrics["accuracy"].value == 1, log.results)
        log = await evaluated(Task(sample, solver=react(tools=[get_weather()]), scorer=includes()), model)
        asks.check_tool_use(log.samples[0].output.completion)
    with drive.step(names["structured"]):
        schema = ResponseSchema(name="person", json_schema=json_schema(Person), strict=True)
        answer = await model.generate(asks.PERSON, config=GenerateConfig(response_schema=schema))
        asks.check_person(json.loads(answer.completion))
    with drive.step(names["turns"]):
        turns: list[Any] = [ChatMessageUser(content=asks.REMEMBER)]
        turns += [(await model.generate(turns)).message, ChatMessageUser(content=asks.RECALL)]
        asks.check_recall((await model.generate(turns)).completion)


async def stream(drive: Drive, model: Model, by: str) -> None:
    with drive.step(f"{by} stream".strip()):
        asks.check_greeting((await model.generate(asks.GREETING)).completion)


async def batch(drive: Drive, model: Model) -> None:
    with drive.step("batches"):
        config = GenerateConfig(batch=BatchConfig(size=2, send_delay=0.2, tick=0.2), max_retries=0, timeout=60)
        prompts = ["question 1", "question 2"]
        answers = await asyncio.gather(*(model.generate(prompt, config=config) for prompt in prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            asks.check_turns(answer.completion, [prompt])


async def main() -> None:
    model, scopes = tuned(), {}
    deploy("inspect", model)
    config = GenerateConfig(max_retries=0)
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "openai/NAME, /v1": (f"openai/{model}", {"base_url": f"{URL}/v1"}),
        "openai-api/SERVICE/NAME, /openai/v1": ("openai-api/luthier/inspect", {"base_url": f"{URL}/openai/v1"}),
        "openai/azure/NAME": ("openai/azure/inspect", {"base_url": URL, "api_version": API_VERSION}),
    }
    for scope, (name, more) in ways.items():
        for by in ("", "responses"):
            asked = {**more, "api_key": KEY, "config": config, "responses_api": bool(by)}
            streams = {"stream" if "openai-api" in name else "streaming": True}
            named = f"{scope}, responses_api={bool(by)}"
            drive = scopes[named] = Drive(named)
            await walk(drive, get_model(name, **asked), by)
            await stream(drive, get_model(name, **asked, **streams), by)
            if scope.startswith("openai/NAME"):
                await batch(drive, get_model(name, **asked))
    # As it comes: a name that the provider does not know is taken for the newest model, and asked by Responses.
    drive = scopes["openai/NAME, as it comes"] = Drive("openai/NAME, as it comes")
    await walk(drive, get_model(f"openai/{model}", base_url=f"{URL}/v1", api_key=KEY, config=config), "responses")
    report(metadata.version("inspect-ai"), scopes)


if __name__ == "__main__":
    asyncio.run(main())
