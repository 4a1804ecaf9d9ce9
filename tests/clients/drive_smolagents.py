"""smolagents: its models for OpenAI and Azure, agents that call tools and agents that write code."""

import json
from importlib import metadata
from typing import Any

import asks
from drive import API_VERSION, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want
from smolagents import AzureOpenAIModel, CodeAgent, OpenAIModel, ToolCallingAgent, tool

CODE = {"thought": "I look.", "code": 'final_answer(get_weather(city="Paris"))'}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "languages": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "languages"],
    "additionalProperties": False,
}


@tool
def get_weather(city: str) -> str:
    """Tells the weather of a city.

    Args:
        city: Name of the city.
    """
    return asks.get_weather(city)


def turns(*texts: str) -> list[Any]:
    """Turns of user and assistant by turns, as the models take them."""
    return [
        {"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": text}]}
        for number, text in enumerate(texts)
    ]


def walk(drive: Drive, model: Any) -> None:
    quiet: dict[str, Any] = {"verbosity_level": 0, "max_steps": 3}
    with drive.step("chat"):
        answer = model(turns(asks.GREETING))
        asks.check_greeting(answer.content)
        want(answer.token_usage.total_tokens == 5, answer.token_usage)
    with drive.step("stream"):
        asks.check_greeting("".join(one.content or "" for one in model.generate_stream(turns(asks.GREETING))))
    with drive.step("tools"):
        # The answer is a call of final_answer, and so is every other step: the choice is always "required".
        asks.check_tool_use(ToolCallingAgent([get_weather], model, **quiet).run(asks.WEATHER))
        agent = ToolCallingAgent([get_weather], model, stream_outputs=True, **quiet)
        asks.check_tool_use(list(agent.run(asks.WEATHER, stream=True))[-1].output)
        asks.check_tool_use(list(agent.run(asks.WEATHER, stream=True))[-1].output)
    with drive.step("structured"):
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
        asks.check_person(json.loads(model(turns(asks.PERSON), response_format=form).content))
        agent = CodeAgent([get_weather], model, use_structured_outputs_internally=True, **quiet)
        asks.check_tool_use(agent.run(f"What is the weather in Paris? {json.dumps(CODE)}"))
    with drive.step("turns"):
        first = model(turns(asks.REMEMBER)).content
        asks.check_recall(model(turns(asks.REMEMBER, first, asks.RECALL)).content)


def main() -> None:
    model, scopes = tuned(), {}
    deploy("smol", model)
    models = {
        "OpenAIModel, /v1": OpenAIModel(model, api_base=f"{URL}/v1", api_key=KEY),
        "OpenAIModel, /openai/v1": OpenAIModel("smol", api_base=f"{URL}/openai/v1", api_key=KEY),
        "AzureOpenAIModel": AzureOpenAIModel("smol", azure_endpoint=URL, api_key=KEY, api_version=API_VERSION),
    }
    for scope, made in models.items():
        drive = scopes[scope] = Drive(scope)
        walk(drive, made)
    report(metadata.version("smolagents"), scopes)


if __name__ == "__main__":
    main()
