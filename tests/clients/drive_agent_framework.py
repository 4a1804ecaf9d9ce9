"""Microsoft's agent-framework: agents by its client for Responses and the one for chat completions, both clouds."""

import asyncio
from importlib import metadata
from typing import Any

import asks
from agent_framework import Agent, AgentSession, tool
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient, OpenAIEmbeddingClient
from drive import API_VERSION, EMBEDDER, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from pydantic import BaseModel

get_weather = tool(asks.get_weather, approval_mode="never_require")


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


async def streamed(agent: Any, prompt: str) -> str:
    """The text as it came in pieces; the run's own end must be the same.

    By Responses a last update repeats the whole text, for whoever merges updates ("replace").
    """
    run = agent.run(prompt, stream=True)
    contents = [content async for update in run for content in update.contents if content.type == "text"]
    text = "".join(content.text for content in contents if content.merge_mode != "replace")
    final = await run.get_final_response()
    want(final.text == text, (text, final.text))
    return text


async def walk(drive: Drive, client: Any, by: str) -> None:
    """The steps of one client; `by` is how the columns of its route are named: "" or "responses"."""
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured", "turns")}
    agent = Agent(client, "Be brief.")
    with drive.step(by or "chat"):
        answer = await agent.run(asks.GREETING)
        asks.check_greeting(answer.text)
        want(answer.usage_details["total_token_count"] == 5, answer.usage_details)
    with drive.step(names["stream"]):
        asks.check_greeting(await streamed(agent, asks.GREETING))
    with drive.step(names["tools"]):
        helper = Agent(client, "Be brief.", tools=[get_weather])
        asks.check_tool_use((await helper.run(asks.WEATHER)).text)
        asks.check_tool_use(await streamed(helper, asks.WEATHER))
    with drive.step(names["structured"]):
        answer = await agent.run(asks.PERSON, options={"response_format": Person})
        asks.check_person(answer.value)
    with drive.step(names["turns"]):
        # Kept here: with `store` false the client for Responses sends all turns itself.
        options = {"store": False} if by else {}
        session = AgentSession()
        await agent.run(asks.REMEMBER, session=session, options=options)
        asks.check_recall((await agent.run(asks.RECALL, session=session, options=options)).text)


async def conversation(drive: Drive, client: Any) -> None:
    with drive.step("conversation"):
        session = AgentSession()
        agent = Agent(client, "Be brief.", tools=[get_weather])
        await Agent(client, "Be brief.").run(asks.REMEMBER, session=session)
        want(str(session.service_session_id).startswith("resp_"), session.service_session_id)
        asks.check_recall((await Agent(client, "Be brief.").run(asks.RECALL, session=session)).text)
        asks.check_tool_use((await agent.run(asks.WEATHER, session=session)).text)


async def main() -> None:
    model, scopes = tuned(), {}
    deploy("frame", model)
    azure = {"azure_endpoint": URL, "api_key": KEY}
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "/v1": (model, {"base_url": f"{URL}/v1", "api_key": KEY}),
        "/openai/v1": ("frame", {"base_url": f"{URL}/openai/v1/", "api_key": KEY}),
        "azure_endpoint": ("frame", azure),
        "azure_endpoint, dated": ("frame", {**azure, "api_version": API_VERSION}),
    }
    for where, (name, more) in ways.items():
        scope = f"OpenAIChatCompletionClient, {where}"
        drive = scopes[scope] = Drive(scope)
        await walk(drive, OpenAIChatCompletionClient(name, **more), "")
        scope = f"OpenAIChatClient, {where}"
        drive = scopes[scope] = Drive(scope)
        client = OpenAIChatClient(name, **more)
        await walk(drive, client, "responses")
        await conversation(drive, client)
        with drive.step("embeddings"):
            asks.check_vectors(
                [one.vector for one in await OpenAIEmbeddingClient(model=EMBEDDER, **more).get_embeddings(asks.TEXTS)]
            )
    report(metadata.version("agent-framework-core"), scopes)


if __name__ == "__main__":
    asyncio.run(main())
