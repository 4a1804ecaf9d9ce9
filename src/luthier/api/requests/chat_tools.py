"""Tools, the choice among them, and the form of an answer, as a chat's body has them.

Schemas are brought into the form that a grammar takes; the grammar itself is made in the service.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.errors import InvalidRequest
from luthier.data.schemas import closed_schemas, response_schema, schema_limits
from luthier.data.schemas.schema_limits import SchemaSizes, UnusableSchema
from luthier.service.inference.generation_requests import Tool, ToolChoice, ToolUse

MAX_PATH_CHARACTERS = 512
"""Of a path into a caller's schema, as an error tells it: names in it are the caller's, of any length."""

_Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class FunctionBody(_Body):
    """A function that the model may call. With `strict`, a keyword of its schema must be one that can be enforced."""

    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(_Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionBody


class FunctionName(_Body):
    """The name of a function that the body has."""

    name: _Name


class NamedTool(_Body):
    """A choice: this function must be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(_Body):
    """The tools of the body that this answer may (auto) or must (required) choose from."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1)


class AllowedToolsChoice(_Body):
    """A choice: only some of the body's tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceBody = Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice


class SchemaBody(BaseModel):
    """The JSON schema of an answer. With `strict`, a keyword of it must be one that can be enforced."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormatBody(_Body):
    """`response_format`: whether the answer is free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None

    def schema_of_answer(self) -> Mapping[str, Any] | None:
        """The schema that the answer is held to, in a grammar's form; None for free text.

        Raises InvalidRequest for a missing or unusable one.
        """
        match self.type:
            case "text":
                return None
            case "json_object":
                return {"type": "object"}
        body = self.json_schema
        if body is None:
            raise InvalidRequest("missing_field", "this field is required.", "response_format.json_schema")
        return schema_of(body, "response_format.json_schema.schema")


def schema_of(body: SchemaBody, path: str) -> Mapping[str, Any]:
    """The schema that an answer is held to, in a grammar's form: any object if the body leaves it out.

    `path` is its place in the body, for errors. Raises InvalidRequest for an unusable one.
    """
    if body.schema_ is None:
        return {"type": "object"}
    return closed_schemas.close_schema(_grammar_schema(body.schema_, bool(body.strict), path, "invalid_json_schema"))


def tool_use(tools: Sequence[ToolBody], choice: ToolChoiceBody | None, parallel: bool) -> ToolUse:
    """What a question's tools and tool_choice ask for. `parallel` is whether one answer may make several calls.

    Raises InvalidRequest for a choice without tools, an unknown or repeated name, and an unusable schema.
    """
    if not tools:
        if choice not in (None, "none"):
            raise InvalidRequest("invalid_value", "tool_choice goes with tools alone.", "tool_choice")
        return ToolUse()
    known = tools_of([tool.function for tool in tools], "tools", ".function")
    match choice:
        case NamedTool(function=FunctionName(name=name)):
            return ToolUse(known, chosen(known, [name], "tool_choice.function.name"), ToolChoice.REQUIRED, False)
        case AllowedToolsChoice(allowed_tools=allowed):
            names = [tool.function.name for tool in allowed.tools]
            narrowed = chosen(known, names, "tool_choice.allowed_tools.tools")
            return ToolUse(known, narrowed, ToolChoice(allowed.mode), parallel)
        case word:
            return ToolUse(known, known, ToolChoice(word or "auto"), parallel)


def function_use(functions: Sequence[FunctionBody], choice: str | None) -> ToolUse:
    """The same of `functions` and `function_call`: one call at most, answered in the old spelling.

    Raises InvalidRequest.
    """
    known = tools_of(functions, "functions", "")
    if choice in (None, "none", "auto"):
        return ToolUse(known, known, ToolChoice(choice or "auto"), parallel=False)
    only = chosen(known, [choice], "function_call.name")
    return ToolUse(known, only, ToolChoice.REQUIRED, parallel=False)


def tools_of(functions: Sequence[FunctionBody], field: str, inner: str) -> tuple[Tool, ...]:
    """Either spelling's functions as the service's tools. `field` and `inner` are parts of their path, for errors.

    Raises InvalidRequest for a repeated name and for an unusable schema, or too much in all of them together.
    """
    names = [function.name for function in functions]
    tools = []
    sizes = SchemaSizes()
    for place, function in enumerate(functions):
        path = f"{field}[{place}]{inner}"
        if function.name in names[:place]:
            raise InvalidRequest("invalid_value", "another function has this name already.", f"{path}.name")
        arguments = _arguments(function, path, sizes)
        described = {"name": function.name, "description": function.description, "parameters": function.parameters}
        definition = {key: value for key, value in described.items() if value is not None}
        tools.append(Tool(function.name, {"type": "function", "function": definition}, arguments))
    return tuple(tools)


def _arguments(function: FunctionBody, path: str, sizes: SchemaSizes) -> Mapping[str, Any]:
    """The schema of a function's arguments in a grammar's form; one that takes none may leave its parameters out.

    Adds what the schema holds to `sizes`. Raises InvalidRequest, with the path, for a schema that cannot be used.
    """
    if not function.parameters:
        return {"type": "object", "additionalProperties": False}
    place = f"{path}.parameters"
    try:
        schema_limits.check_plain(function.parameters)
    except UnusableSchema as error:
        raise InvalidRequest(error.code or "invalid_function_parameters", f"{error.message}.", place) from None
    if function.parameters.get("type", "object") != "object":
        raise InvalidRequest("invalid_function_parameters", "parameters describe a JSON object.", f"{place}.type")
    usable = _grammar_schema(function.parameters, bool(function.strict), place, "invalid_function_parameters", sizes)
    return closed_schemas.close_parameters(usable)


def chosen(known: Sequence[Tool], names: Sequence[str | None], path: str) -> tuple[Tool, ...]:
    """The tools of these names, each once. Raises InvalidRequest for an unknown name."""
    by_name = {tool.name: tool for tool in known}
    for name in names:
        if name not in by_name:
            raise InvalidRequest("invalid_value", f"no tool of this request is called {name!r}.", path)
    return tuple(by_name[name] for name in dict.fromkeys(names) if name is not None)


def _grammar_schema(
    schema: Mapping[str, Any], strict: bool, path: str, code: str, sizes: SchemaSizes | None = None
) -> Mapping[str, Any]:
    """The schema in a grammar's form.

    Raises InvalidRequest with the path of the fault, which is `code` unless it has its own.
    """
    try:
        return response_schema.grammar_schema(schema, strict, sizes)
    except UnusableSchema as error:
        where = f"{path}{error.path}".encode("utf-8", "backslashreplace").decode()
        shown = where if len(where) <= MAX_PATH_CHARACTERS else f"{where[:MAX_PATH_CHARACTERS]}..."
        raise InvalidRequest(error.code or code, f"{error.message}.", shown) from None
