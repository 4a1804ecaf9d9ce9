"""instructor: answers in the shape of a model, by each of its modes for OpenAI, whole and streamed, and batches."""

import asyncio
import os
from importlib import metadata
from typing import Any

import asks
import instructor
import openai
from drive import API_VERSION, KEY, URL, Drive, deploy, report, tuned, until
from drive import wanted as want
from instructor.batch import BatchProcessor
from instructor.batch.models import BatchSuccess
from pydantic import BaseModel

MODES = ("TOOLS", "TOOLS_STRICT", "JSON", "JSON_SCHEMA")


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    languages: list[str]


def asked(prompt: str = asks.PERSON) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "max_retries": 0}


def walk(drive: Drive, client: Any, model: str) -> None:
    made = {mode: instructor.from_openai(client, mode=instructor.Mode[mode], model=model) for mode in MODES}
    with drive.step("chat"):
        answer = made["TOOLS"].create(response_model=None, **asked(asks.GREETING))
        asks.check_greeting(answer.choices[0].message.content)
    with drive.step("stream"):
        for client in made.values():
            parts = list(client.create_partial(response_model=Person, **asked()))
            want(len(parts) > 1, parts)
            asks.check_person(parts[-1])
        asks.check_person(*made["TOOLS"].create_iterable(response_model=Person, **asked()))
    with drive.step("structured"):
        for client in made.values():
            asks.check_person(client.create(response_model=Person, **asked()))
        person, answer = made["TOOLS"].create_with_completion(response_model=Person, **asked())
        asks.check_person(person)
        want(answer.usage.total_tokens == 5, answer.usage)
        want(made["TOOLS"].create(response_model=bool, **asked('Is it? {"content": true}')) is True, "not a bare value")


def responses(drive: Drive, client: Any, model: str) -> None:
    made = instructor.from_openai(client, mode=instructor.Mode.RESPONSES_TOOLS, model=model)
    with drive.step("responses structured"):
        asks.check_person(made.responses.create(response_model=Person, input=asks.PERSON, max_retries=0))
        asks.check_person(made.create(response_model=Person, **asked()))
    with drive.step("responses stream"):
        parts = list(made.create_partial(response_model=Person, **asked()))
        want(len(parts) > 1, parts)
        asks.check_person(parts[-1])


def as_documented(drive: Drive, model: str) -> None:
    """`from_provider`, which reads the address and the key out of the environment, as batches do."""
    os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{URL}/v1"}
    with drive.step("structured"):
        asks.check_person(instructor.from_provider(f"openai/{model}").create(response_model=Person, **asked()))
        later = instructor.from_provider(f"openai/{model}", async_client=True)
        asks.check_person(asyncio.run(later.create(response_model=Person, **asked())))
    with drive.step("batches"):
        processor = BatchProcessor(f"openai/{model}", Person)
        lines = processor.create_batch_from_messages([asked()["messages"]] * 2)
        batch = processor.submit_batch(lines)
        ended = ("completed", "failed", "expired", "cancelled")
        until(lambda: processor.get_batch_status(batch)["status"], lambda status: status in ended)
        results = processor.retrieve_results(batch)
        want(len(results) == 2 and all(isinstance(one, BatchSuccess) for one in results), results)
        for one in results:
            asks.check_person(one.result)


def main() -> None:
    model = tuned()
    deploy("teach", model)
    ways: dict[str, tuple[Any, str]] = {
        "from_openai, /v1": (openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY), model),
        "from_openai, /openai/v1": (openai.OpenAI(base_url=f"{URL}/openai/v1/", api_key=KEY), "teach"),
        "from_openai, AzureOpenAI": (
            openai.AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=API_VERSION),
            "teach",
        ),
    }
    scopes = {}
    for scope, (client, name) in ways.items():
        drive = scopes[scope] = Drive(scope)
        walk(drive, client, name)
        named = f"{scope}, RESPONSES_TOOLS"
        scopes[named] = Drive(named)
        responses(scopes[named], client, name)
    drive = scopes["from_provider"] = Drive("from_provider")
    as_documented(drive, model)
    report(metadata.version("instructor"), scopes)


if __name__ == "__main__":
    main()
