"""Tools, the choice among them, and the form of an answer, as a response's body has them: flatter than a chat's."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from luthier.api.requests import chat_tools
from luthier.api.requests.chat_tools import FunctionBody, SchemaBody
from luthier.core.errors import InvalidRequest
from luthier.service.inference.generation_requests import ToolChoice, ToolUse

_Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


def _only_direct(callers: object) -> object:
    """The value unchanged. Raises ValueError, which pydantic reports at the field, for callers other than the model."""
    if callers in (None, ["direct"]):
        return callers
    raise ValueError("functions are called by the model alone; leave it out")


class FunctionTool(_Body):
    """A function that the model may call. With `strict`, a keyword of its schema must be one that can be enforced."""

    type: Literal["function"]
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[str] | None, BeforeValidator(_only_direct)] = None
    defer_loading: Literal[False] | None = None
    async_: Literal[False] | None = Field(default=None, alias="async")
    output_schema: dict[str, Any] | None = None
    """What the function gives; nothing of it is enforced, as no word of an answer depends on it."""

    def echo(self) -> dict[str, Any]:
        """The tool as the response repeats it."""
        described = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", **described, "strict": self.strict}


def _refuse_tool(kind: object) -> str:
    """Raises ValueError, which pydantic reports at the field: such a tool would run on a server."""
    if kind == "custom":
        raise ValueError("tools that take free text are not served here; describe a function of type 'function'")
    raise ValueError("tools of a server are not served here; describe a function of your own, of type 'function'")


class OtherTool(BaseModel):
    """A tool that is not served."""

    type: Annotated[str, BeforeValidator(_refuse_tool)]


def _kind_of_tool(tool: object) -> str:
    """The branch of a tool: by its type; without one it is taken for a function, whose type is then missing."""
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "FunctionTool" if kind in ("function", None) else "OtherTool"


ToolItem: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("FunctionTool")] | Annotated[OtherTool, Tag("OtherTool")], Discriminator(_kind_of_tool)
]


class FunctionChoice(_Body):
    """A choice: this function must be called."""

    type: Literal["function"]
    name: _Name


class AllowedChoice(_Body):
    """A choice: the answer may (auto) or must (required) choose from these tools of the body alone."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FunctionChoice] = Field(min_length=1)


def _refuse_choice(kind: object) -> str:
    """Raises ValueError, which pydantic reports at the field: there is no such tool to choose."""
    raise ValueError("a choice is 'none', 'auto', 'required', or of type 'function' or 'allowed_tools'")


class OtherChoice(BaseModel):
    """A choice of a tool that is not served."""

    type: Annotated[str, BeforeValidator(_refuse_choice)]


def _kind_of_choice(choice: object) -> str:
    """The branch of a choice: a word, or by its type."""
    if isinstance(choice, dict):
        named = {"function": "FunctionChoice", "allowed_tools": "AllowedChoice"}
        kind = choice.get("type")
        return named.get(kind, "OtherChoice") if isinstance(kind, str) else "OtherChoice"
    return type(choice).__name__ if isinstance(choice, BaseModel) else "str"


ChoiceBody: TypeAlias = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("str")]
    | Annotated[FunctionChoice, Tag("FunctionChoice")]
    | Annotated[AllowedChoice, Tag("AllowedChoice")]
    | Annotated[OtherChoice, Tag("OtherChoice")],
    Discriminator(_kind_of_choice),
]


class FormatBody(_Body):
    """`text.format`: whether the answer is free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: _Name | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    def schema_of_answer(self) -> Mapping[str, Any] | None:
        """The schema that the answer is held to, in a grammar's form; None for free text.

        Raises InvalidRequest for a missing or unusable one, and for a schema's fields with another type.
        """
        fields = {"name": self.name, "description": self.description, "strict": self.strict, "schema": self.schema_}
        sent = [name for name, value in fields.items() if value is not None]
        if self.type != "json_schema":
            if sent:
                raise InvalidRequest(
                    "invalid_value", "it goes with type 'json_schema' alone.", f"text.format.{sent[0]}"
                )
            return {"type": "object"} if self.type == "json_object" else None
        for name in ("name", "schema"):
            if name not in sent:
                raise InvalidRequest("missing_field", "this field is required.", f"text.format.{name}")
        return chat_tools.schema_of(SchemaBody.model_validate(fields), "text.format.schema")

    def echo(self) -> dict[str, Any]:
        """The format as the response repeats it."""
        if self.type != "json_schema":
            return {"type": self.type}
        described = {"name": self.name, "description": self.description, "strict": bool(self.strict)}
        return {"type": "json_schema", **described, "schema": self.schema_}


def tool_use(tools: Sequence[FunctionTool | OtherTool], choice: object, parallel: bool) -> ToolUse:
    """What a body's tools and tool_choice ask for. `parallel` is whether one answer may make several calls.

    Raises InvalidRequest for a choice without tools, an unknown or repeated name, and an unusable schema.
    """
    functions = [
        FunctionBody(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
        for tool in tools
        if isinstance(tool, FunctionTool)
    ]
    if not functions:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("invalid_value", "tool_choice goes with tools alone.", "tool_choice")
        return ToolUse()
    known = chat_tools.tools_of(functions, "tools", "")
    match choice:
        case FunctionChoice(name=name):
            return ToolUse(known, chat_tools.chosen(known, [name], "tool_choice.name"), ToolChoice.REQUIRED, False)
        case AllowedChoice(mode=mode, tools=allowed):
            names = [tool.name for tool in allowed]
            return ToolUse(known, chat_tools.chosen(known, names, "tool_choice.tools"), ToolChoice(mode), parallel)
        case word:
            return ToolUse(known, known, ToolChoice(str(word or "auto")), parallel)
