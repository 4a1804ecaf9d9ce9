"""luthier chat: chat with a deployment or a model in the terminal."""

import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from luthier.cli import client
from luthier.cli.completion import candidates
from luthier.cli.screen import OneAsJson, Quiet, errors, fail, print_json, screen, waiting


def chat(
    model: Annotated[str, typer.Argument(help="Deployment or model.", autocompletion=candidates.answering)],
    question: Annotated[str | None, typer.Argument(help="One question; without it a conversation starts.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Sampling temperature.")] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum tokens of an answer.")] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Chat with a deployment or model: one question, or a conversation.

    A conversation ends with an empty line or Ctrl-D. --json is for one question, and prints the API's answer whole.
    """
    if json_ and question is None:
        fail("--json is for one question: give QUESTION.", code="usage")
    messages = [{"role": "system", "content": system}] if system else []
    with client.connected() as api:
        while text := question if question is not None else _read():
            messages.append({"role": "user", "content": text})
            if json_:
                _print_completion(api, model=model, messages=messages, temperature=temperature, max_tokens=max_tokens)
                return
            answer = _answer(api, model=model, messages=messages, temperature=temperature, max_tokens=max_tokens)
            messages.append({"role": "assistant", "content": answer})
            if question is not None:
                return


def _read() -> str:
    """The next question from stdin, without surrounding space; "" at its end or after Ctrl-C, which ends the
    conversation. The prompt `you` is shown on stderr, in a terminal only.
    """
    try:
        return errors.input(Text("you ", "bold") if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _answer(api: Any, **request: Any) -> str:
    """Asks for a streamed answer, prints its text as it comes, and returns all of it; options that are None are not
    sent. Errors of the service pass to `client.connected`.
    """
    pieces = []
    with waiting(f"waiting for {request['model']}"):  # its weights may have to be loaded first
        chunks = api.chat.completions.create(stream=True, **{k: v for k, v in request.items() if v is not None})
    for chunk in chunks:
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            pieces.append(piece)
            screen.print(piece, end="", highlight=False, markup=False, soft_wrap=True)
    screen.print()
    return "".join(pieces)


def _print_completion(api: Any, **request: Any) -> None:
    """Asks for an answer in one piece and prints the API's object."""
    answer = api.chat.completions.create(**{k: v for k, v in request.items() if v is not None})
    print_json(answer.to_dict(mode="json"))
