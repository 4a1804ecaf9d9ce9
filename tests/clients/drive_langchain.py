"""langchain-openai: ChatOpenAI by both routes and AzureChatOpenAI, agents of langchain, embeddings."""

import asyncio
from importlib import metadata
from typing import Any

import asks
from drive import API_VERSION, EMBEDDER, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, AzureOpenAIEmbeddings, ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

ASKED = [SystemMessage("Be brief."), HumanMessage(asks.GREETING)]
get_weather = tool(asks.get_weather)
# All models of one address share their connections, which belong to the first event loop that used them.
LOOP = asyncio.new_event_loop()


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    languages: list[str]


async def both(chat: Any) -> tuple[str, str]:
    """A whole answer and a streamed one."""
    whole = await chat.ainvoke(ASKED)
    return whole.text, "".join([piece.text async for piece in chat.astream(ASKED)])


def walk(drive: Drive, chat: Any, stranger: Any, by: str) -> None:
    """The steps of one way to a model; `by` is how the columns of its route are named: "" or "responses"."""
    names = {name: f"{by} {name}".strip() for name in ("stream", "tools", "structured", "turns")}
    with drive.step(by or "chat"):
        answer = chat.invoke(ASKED)
        asks.check_greeting(answer.text)
        want(answer.usage_metadata["total_tokens"] == 5, answer)
        want(len(chat.batch([ASKED] * 3)) == 3, "not three")
        for text in LOOP.run_until_complete(both(chat)):
            asks.check_greeting(text)
    with drive.step(names["stream"]):
        pieces = list(chat.stream(ASKED))
        asks.check_greeting("".join(piece.text for piece in pieces))
    with drive.step(names["tools"]):
        bound = chat.bind_tools([get_weather])
        turns: list[Any] = [HumanMessage(asks.WEATHER)]
        turns.append(bound.invoke(turns))
        for call in turns[-1].tool_calls:
            turns.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
        asks.check_tool_use(bound.invoke(turns).text)
        agent = create_agent(chat, tools=[get_weather], system_prompt="Be brief.")
        state = agent.invoke({"messages": [HumanMessage(asks.WEATHER)]})
        asks.check_tool_use(state["messages"][-1].text)
    with drive.step(names["structured"]):
        for method in ("json_schema", "function_calling"):
            asks.check_person(chat.with_structured_output(Person, method=method).invoke(asks.PERSON))
        agent = create_agent(chat, response_format=Person)
        asks.check_person(agent.invoke({"messages": [HumanMessage(asks.PERSON)]})["structured_response"])
        streamed = list(chat.with_structured_output(Person).stream(asks.PERSON))
        asks.check_person(streamed[-1])
    with drive.step(names["turns"]):
        turns = [HumanMessage(asks.REMEMBER)]
        turns += [chat.invoke(turns), HumanMessage(asks.RECALL)]
        asks.check_recall(chat.invoke(turns).text)
    with drive.step("error 401"):
        try:
            stranger.invoke(ASKED)
        except Exception as error:
            want(type(error).__name__.endswith("AuthenticationError"), repr(error))
        else:
            raise AssertionError("not refused")


def conversation(drive: Drive, make: Any, more: dict[str, Any]) -> None:
    """The answer before is named, and only what follows it is sent."""
    with drive.step("conversation"):
        chat = make(use_previous_response_id=True, **more)
        turns: list[Any] = [HumanMessage(asks.REMEMBER)]
        turns += [chat.invoke(turns), HumanMessage(asks.RECALL)]
        asks.check_recall(chat.invoke(turns).text)


def main() -> None:
    model, scopes = tuned(), {}
    deploy("chain", model)
    azure = {"azure_endpoint": URL, "api_version": API_VERSION}
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "ChatOpenAI, /v1": (ChatOpenAI, {"base_url": f"{URL}/v1", "model": model}),
        "ChatOpenAI, /openai/v1": (ChatOpenAI, {"base_url": f"{URL}/openai/v1/", "model": "chain"}),
        "AzureChatOpenAI": (AzureChatOpenAI, {**azure, "azure_deployment": "chain"}),
    }
    limits: dict[str, Any] = {"max_tokens": 50, "temperature": 0, "max_retries": 0}
    for scope, (kind, where) in ways.items():
        drive = scopes[scope] = Drive(scope)
        walk(drive, *(kind(api_key=key, **where, **limits) for key in (KEY, "wrong")), "")
        named = f"{scope}, use_responses_api=True"
        drive = scopes[named] = Drive(named)
        if kind is AzureChatOpenAI:  # that route names the model in the body
            where = {**azure, "model": "chain"}
        more = {**where, **limits, "use_responses_api": True}
        walk(drive, *(kind(api_key=key, **more) for key in (KEY, "wrong")), "responses")
        conversation(drive, kind, {**where, **limits, "api_key": KEY})
    embeddings(scopes)
    report(metadata.version("langchain-openai"), scopes)


def embeddings(scopes: dict[str, Drive]) -> None:
    """Texts as they are: with its check of their length it sends the tokens of OpenAI's own vocabulary."""
    plain = {"check_embedding_ctx_length": False, "api_key": KEY}
    azure = {"azure_endpoint": URL, "api_version": API_VERSION, "azure_deployment": EMBEDDER}
    made = {
        "OpenAIEmbeddings, /v1": lambda: OpenAIEmbeddings(base_url=f"{URL}/v1", model=EMBEDDER, **plain),
        "AzureOpenAIEmbeddings": lambda: AzureOpenAIEmbeddings(**azure, **plain),
    }
    for scope, make in made.items():
        drive = scopes[scope] = Drive(scope)
        with drive.step("embeddings"):
            asks.check_vectors(make().embed_documents(asks.TEXTS))


if __name__ == "__main__":
    main()
