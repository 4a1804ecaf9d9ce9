"""OpenAI Agents for Python: agents by Responses, which is its default, and by chat completions, on each base URL."""

import asyncio
from importlib import metadata
from typing import Any

import asks
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIProvider,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from drive import API_VERSION, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from openai import AsyncAzureOpenAI, AsyncOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


async def streamed(agent: Any, prompt: str, config: RunConfig) -> str:
    """The text as it came in pieces; the run's own end must be the same."""
    run = Runner.run_streamed(agent, prompt, run_config=config)
    pieces = []
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
    want("".join(pieces) == run.final_output, (pieces, run.final_output))
    return str(run.final_output)


async def walk(drive: Drive, model: Any, by: str, config: RunConfig | None = None) -> None:
    """The steps of one way to a model; `by` is how the columns of its route are named: "" or "responses"."""
    config = config or RunConfig()
    agent = Agent(name="Helper", instructions="Be brief.", model=model)
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured")}
    with drive.step(by or "chat"):
        asks.check_greeting((await Runner.run(agent, asks.GREETING, run_config=config)).final_output)
    with drive.step(names["stream"]):
        asks.check_greeting(await streamed(agent, asks.GREETING, config))
    with drive.step(names["tools"]):
        helper = agent.clone(tools=[function_tool(asks.get_weather)])
        asks.check_tool_use((await Runner.run(helper, asks.WEATHER, run_config=config)).final_output)
        asks.check_tool_use(await streamed_tool_use(helper, config))
        # A handoff is a tool too: this agent has none of its own, and the other one answers.
        desk = Agent(name="Desk", model=model, handoffs=[helper])
        run = await Runner.run(desk, asks.WEATHER, run_config=config)
        asks.check_tool_use(run.final_output)
        want(run.last_agent.name == "Helper", run.last_agent.name)
    with drive.step(names["structured"]):
        typed = agent.clone(output_type=Person)
        asks.check_person((await Runner.run(typed, asks.PERSON, run_config=config)).final_output)
    with drive.step("turns" if not by else "responses turns"):
        session = SQLiteSession("one")
        await Runner.run(agent, asks.REMEMBER, session=session, run_config=config)
        asks.check_recall((await Runner.run(agent, asks.RECALL, session=session, run_config=config)).final_output)


async def streamed_tool_use(agent: Any, config: RunConfig) -> str:
    run = Runner.run_streamed(agent, asks.WEATHER, run_config=config)
    kinds = [event.item.type async for event in run.stream_events() if event.type == "run_item_stream_event"]
    want(kinds == ["tool_call_item", "tool_call_output_item", "message_output_item"], kinds)
    return str(run.final_output)


async def conversations(drive: Drive, client: AsyncOpenAI, model: str) -> None:
    """What the server keeps between two runs: the answer before, or a conversation."""
    agent = Agent(name="Helper", instructions="Be brief.", model=OpenAIResponsesModel(model, client))
    with drive.step("conversation"):
        first = await Runner.run(agent, asks.REMEMBER)
        second = await Runner.run(agent, asks.RECALL, previous_response_id=first.last_response_id)
        asks.check_recall(second.final_output)
        # Within a run the server keeps the tool's call, and only its result is sent.
        helper = agent.clone(tools=[function_tool(asks.get_weather)])
        run = await Runner.run(helper, asks.WEATHER, auto_previous_response_id=True)
        asks.check_tool_use(run.final_output)
    with drive.step("conversations"):
        session = OpenAIConversationsSession(openai_client=client)
        await Runner.run(agent, asks.REMEMBER, session=session)
        asks.check_recall((await Runner.run(agent, asks.RECALL, session=session)).final_output)


def clients(model: str) -> dict[str, tuple[AsyncOpenAI, str]]:
    return {
        "/v1": (AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY), model),
        "/openai/v1": (AsyncOpenAI(base_url=f"{URL}/openai/v1/", api_key=KEY), "agent"),
        "AsyncAzureOpenAI": (AsyncAzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=API_VERSION), "agent"),
    }


async def main() -> None:
    set_tracing_disabled(True)  # traces go to OpenAI's own host
    model, scopes = tuned(), {}
    deploy("agent", model)
    drive = scopes["as it comes, /v1"] = Drive("as it comes, /v1")
    provider = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
    await walk(drive, model, "responses", RunConfig(model_provider=provider))
    for where, (client, name) in clients(model).items():
        scope = f"OpenAIChatCompletionsModel, {where}"
        drive = scopes[scope] = Drive(scope)
        await walk(drive, OpenAIChatCompletionsModel(name, client), "")
        scope = f"OpenAIResponsesModel, {where}"
        drive = scopes[scope] = Drive(scope)
        await walk(drive, OpenAIResponsesModel(name, client), "responses")
        await conversations(drive, client, name)
    report(metadata.version("openai-agents"), scopes)


if __name__ == "__main__":
    asyncio.run(main())
