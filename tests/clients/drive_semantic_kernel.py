"""semantic-kernel: its chat services for OpenAI and Azure with agents and plugins, its agents for Responses.

The package imports the engine of its Handlebars templates with everything; that is published as source code only, is
not in the environment, and stands here as an empty module.
"""

import asyncio
import sys
from importlib import metadata
from types import ModuleType
from typing import Any

import asks
from drive import API_VERSION, EMBEDDER, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from openai import AsyncAzureOpenAI, AsyncOpenAI
from pydantic import BaseModel

sys.modules["pybars"] = ModuleType("pybars")
sys.modules["pybars"].Compiler = sys.modules["pybars"].PybarsError = Exception  # type: ignore[attr-defined]

from semantic_kernel.agents import (  # noqa: E402
    AzureResponsesAgent,
    ChatCompletionAgent,
    ChatHistoryAgentThread,
    OpenAIResponsesAgent,
    ResponsesAgentThread,
)
from semantic_kernel.connectors.ai.open_ai import (  # noqa: E402
    AzureChatCompletion,
    AzureTextEmbedding,
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.functions import KernelArguments, kernel_function  # noqa: E402


class Person(BaseModel):
    name: str
    age: int
    languages: list[str]


class Weather:
    @kernel_function(name="get_weather", description="Tells the weather of a city")
    def get_weather(self, city: str) -> str:
        return asks.get_weather(city)


async def streamed(agent: Any, prompt: str) -> str:
    return "".join([str(piece.message) async for piece in agent.invoke_stream(prompt)])


async def walk(drive: Drive, make: Any, by: str, typed: dict[str, Any]) -> None:
    """The steps of one kind of agent; `by` names the columns of its route: "" or "responses".

    `typed` is what makes an agent answer with a Person.
    """
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured", "turns")}
    agent = make()
    with drive.step(by or "chat"):
        asks.check_greeting(str((await agent.get_response(asks.GREETING)).message))
    with drive.step(names["stream"]):
        asks.check_greeting(await streamed(agent, asks.GREETING))
    with drive.step(names["tools"]):
        helper = make(plugins=[Weather()])
        asks.check_tool_use(str((await helper.get_response(asks.WEATHER)).message))
        asks.check_tool_use(await streamed(helper, asks.WEATHER))
    with drive.step(names["structured"]):
        answer = await make(**typed).get_response(asks.PERSON)
        asks.check_person(Person.model_validate_json(str(answer.message)))
    with drive.step(names["turns"]):
        thread = ResponsesAgentThread(agent.client, enable_store=False) if by else ChatHistoryAgentThread()
        more = {"store_enabled": False} if by else {}
        await make(**more).get_response(asks.REMEMBER, thread=thread)
        asks.check_recall(str((await make(**more).get_response(asks.RECALL, thread=thread)).message))
    if by:
        with drive.step("conversation"):
            first = await agent.get_response(asks.REMEMBER)
            want(first.thread.response_id.startswith("resp_"), first.thread.response_id)
            second = await agent.get_response(asks.RECALL, thread=first.thread)
            asks.check_recall(str(second.message))


async def embed(drive: Drive, service: Any) -> None:
    with drive.step("embeddings"):
        asks.check_vectors((await service.generate_embeddings(asks.TEXTS)).tolist())


async def main() -> None:
    model, scopes = tuned(), {}
    deploy("kernel", model)
    plain = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)
    dated = AsyncAzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=API_VERSION)
    # With endpoint=... it takes https alone; a client of the SDK may have any address.
    azure: dict[str, Any] = {"async_client": dated}
    services = {
        "OpenAIChatCompletion, /v1": OpenAIChatCompletion(model, async_client=plain),
        "AzureChatCompletion": AzureChatCompletion(deployment_name="kernel", **azure),
    }
    settings = OpenAIChatPromptExecutionSettings(response_format=Person)
    for scope, service in services.items():
        drive = scopes[scope] = Drive(scope)

        def chat_agent(service: Any = service, **more: Any) -> Any:
            return ChatCompletionAgent(service=service, name="Helper", instructions="Be brief.", **more)

        await walk(drive, chat_agent, "", {"arguments": KernelArguments(settings)})
    await embed(scopes["OpenAIChatCompletion, /v1"], OpenAITextEmbedding(EMBEDDER, async_client=plain))
    await embed(scopes["AzureChatCompletion"], AzureTextEmbedding(deployment_name=EMBEDDER, **azure))
    agents: dict[str, tuple[Any, str, Any]] = {
        "OpenAIResponsesAgent, /v1": (OpenAIResponsesAgent, model, plain),
        "AzureResponsesAgent": (AzureResponsesAgent, "kernel", dated),
    }
    for scope, (kind, name, client) in agents.items():
        drive = scopes[scope] = Drive(scope)

        def responses_agent(kind: Any = kind, name: str = name, client: Any = client, **more: Any) -> Any:
            return kind(ai_model_id=name, client=client, name="Helper", instructions="Be brief.", **more)

        typed = {"text": OpenAIResponsesAgent.configure_response_format(Person)}
        await walk(drive, responses_agent, "responses", typed)
    report(metadata.version("semantic-kernel"), scopes)


if __name__ == "__main__":
    asyncio.run(main())
