"""langchain-openai: a tuned model behind ChatOpenAI and AzureChatOpenAI, sync and async."""

import asyncio
from importlib import metadata
from typing import Any

from drive import API_VERSION, KEY, URL, Drive, deploy, repeats, report, tuned
from drive import wanted as want
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI

ASKED = [SystemMessage("Be brief."), HumanMessage("hi")]


async def both(chat: Any) -> tuple[str, str]:
    """A whole answer and a streamed one, in one event loop: its connections belong to the first that used them."""
    whole = await chat.ainvoke(ASKED)
    return whole.text, "".join([piece.text async for piece in chat.astream(ASKED)])


def walk(drive: Drive, chat: Any, stranger: Any) -> None:
    with drive.step("chat"):
        answer = chat.invoke(ASKED)
        want(answer.usage_metadata["total_tokens"] == 5 and answer.content, answer)
    with drive.step("chat, async, whole and streamed"):
        whole, streamed = asyncio.run(both(chat))
        want(whole and repeats(streamed, "hi"), (whole, streamed))
    with drive.step("chat, streamed"):
        pieces = list(chat.stream(ASKED))
        want(repeats("".join(piece.text for piece in pieces), "hi"), pieces)
    with drive.step("chat, batch of 3"):
        want(len(chat.batch([ASKED] * 3)) == 3, "not three")
    with drive.step("error 401"):
        try:
            stranger.invoke(ASKED)
        except Exception as error:
            want(type(error).__name__.endswith("AuthenticationError"), repr(error))
        else:
            raise AssertionError("not refused")


def main() -> None:
    model = tuned()
    deploy("chain", model)
    scopes = {"ChatOpenAI /v1": Drive(), "ChatOpenAI /openai/v1": Drive(), "AzureChatOpenAI": Drive()}
    limits: dict[str, Any] = {"max_tokens": 5, "temperature": 0, "max_retries": 0}
    for scope, base, name in (("ChatOpenAI /v1", "/v1", model), ("ChatOpenAI /openai/v1", "/openai/v1/", "chain")):
        clients = [ChatOpenAI(base_url=URL + base, api_key=key, model=name, **limits) for key in (KEY, "wrong")]
        walk(scopes[scope], *clients)
    clients = [
        AzureChatOpenAI(azure_endpoint=URL, api_key=key, api_version=API_VERSION, azure_deployment="chain", **limits)
        for key in (KEY, "wrong")
    ]
    walk(scopes["AzureChatOpenAI"], *clients)
    report(metadata.version("langchain-openai"), scopes)


if __name__ == "__main__":
    main()
