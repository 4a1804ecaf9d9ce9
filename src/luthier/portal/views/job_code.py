"""A job's body as code that creates the same job: Python for either SDK, and the command line."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_OF_THE_SDK = ("model", "training_file", "validation_file", "hyperparameters", "method", "seed", "suffix")
_OPTIONS = {"n_epochs": "epochs", "batch_size": "batch-size", "learning_rate_multiplier": "lr-multiplier"}


def azure_python(body: Mapping[str, Any], url: str) -> str:
    """Python for Azure's SDK; the key is in the variable of that SDK."""
    head = [
        "from openai import AzureOpenAI",
        "",
        "# the key: environment variable AZURE_OPENAI_API_KEY",
        f'client = AzureOpenAI(azure_endpoint={_literal(url)}, api_version="2024-10-21")',
    ]
    return "\n".join([*head, *_call(body)])


def openai_python(body: Mapping[str, Any], url: str) -> str:
    """Python for OpenAI's SDK; the key is in the variable of that SDK."""
    head = [
        "from openai import OpenAI",
        "",
        "# the key: environment variable OPENAI_API_KEY",
        f"client = OpenAI(base_url={_literal(url + '/v1')})",
    ]
    return "\n".join([*head, *_call(body)])


def command(body: Mapping[str, Any]) -> str:
    """The command `luthier jobs create`; address and key are in LUTHIER_URL and LUTHIER_API_KEY."""
    words: list[tuple[str, object]] = [("model", body.get("model", "MODEL"))]
    words.append(("data", body.get("training_file", "FILE")))
    if "validation_file" in body:
        words.append(("validation", body["validation_file"]))
    method = body.get("method")
    asked = body.get("hyperparameters", {}) if method is None else method["dpo"]["hyperparameters"]
    if method is not None:
        words.append(("method", "dpo"))
    words += [(_OPTIONS.get(name, name), value) for name, value in asked.items()]
    words += [(name, body[name]) for name in ("seed", "suffix") if name in body]
    if "early_stopping" in body:
        words.append(("early-stop", body["early_stopping"]["patience"]))
    words += [("epochs" if name == "n_epochs" else name, value) for name, value in body.get("luthier", {}).items()]
    return " \\\n  ".join(["luthier jobs create", *(_option(name, value) for name, value in words)])


def _call(body: Mapping[str, Any]) -> list[str]:
    """The lines that create the job; what the SDK has no parameter for is in extra_body."""
    own = {name: value for name, value in body.items() if name not in _OF_THE_SDK}
    arguments = {name: body[name] for name in _OF_THE_SDK if name in body}
    arguments = {"model": "MODEL", "training_file": "FILE"} | arguments | ({"extra_body": own} if own else {})
    lines = [f"    {name}={_literal(value)}," for name, value in arguments.items()]
    return ["job = client.fine_tuning.jobs.create(", *lines, ")", "print(job.id)"]


def _literal(value: object) -> str:
    """A JSON value as Python writes it, with double quotes."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            return "{" + ", ".join(f"{_literal(key)}: {_literal(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case _:
            return repr(value)


def _option(name: str, value: object) -> str:
    """One option of the command; a value that begins with a hyphen stays its value."""
    option = f"--{name.replace('_', '-')}"
    match value:
        case bool():  # of the recipe's settings only full is one
            return "--full" if value else "--lora"
        case list():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    quoted = shlex.quote(text)
    return f"{option}={quoted}" if text.startswith("-") else f"{option} {quoted}"
