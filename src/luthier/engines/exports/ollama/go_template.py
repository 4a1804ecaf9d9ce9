"""Executes the part of Go's text/template that our translations use, as Ollama does with a chat's messages.

Texts and trim markers, variables, `if` / `else if` / `else`, `range` over messages or a number, and the functions of
FUNCTIONS. Strings are bytes, as in Go. Everything else is a ValueError: a translation never has it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|-?\d+|[$]?[\w.]+|[$]|:=|=|,|\(|\))')
_SPACES = " \t\r\n"


@dataclass(slots=True)
class Text:
    """Literal text."""

    text: bytes


@dataclass(slots=True)
class Action:
    """A pipeline whose value is written, or set to `variable` (`declares`: a new one)."""

    pipeline: Any
    variable: str | None = None
    declares: bool = False


@dataclass(slots=True)
class Branch:
    """An if; `otherwise` is what follows its else."""

    condition: Any
    then: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class Loop:
    """A range; `names` are its variables, one for a number, two for a list."""

    names: list[str]
    over: Any
    body: list["Node"] = field(default_factory=list)


Node = Text | Action | Branch | Loop


class _Scopes:
    """Variables by scope, innermost last."""

    def __init__(self, root: object) -> None:
        self._scopes: list[dict[str, Any]] = [{"$": root}]

    def push(self) -> None:
        self._scopes.append({})

    def pop(self) -> None:
        self._scopes.pop()

    def declare(self, name: str, value: Any) -> None:
        self._scopes[-1][name] = value

    def assign(self, name: str, value: Any) -> None:
        """Sets a variable where it was declared. Raises ValueError for one that was not."""
        self._of(name)[name] = value

    def get(self, name: str) -> Any:
        return self._of(name)[name]

    def _of(self, name: str) -> dict[str, Any]:
        for scope in self._scopes[::-1]:
            if name in scope:
                return scope
        raise ValueError(f"undefined variable {name}")


def parse(template: str) -> list[Node]:
    """The nodes of a template. Raises ValueError for what is not understood here."""
    pieces = list(_pieces(template))
    nodes, end = _parse(pieces, 0)
    if end != len(pieces):
        raise ValueError("unexpected end or else")
    return nodes


def execute(nodes: Sequence[Node], messages: Sequence[Mapping[str, str]]) -> str:
    """What the template writes for a chat, with each message's role as .Role and its text as .Content."""
    said = [{"Role": message["role"].encode(), "Content": message["content"].encode()} for message in messages]
    root = {"Messages": said}
    out: list[bytes] = []
    _run(nodes, _Scopes(root), root, out)
    return b"".join(out).decode()


def _pieces(template: str) -> Iterator[str | list[str]]:
    """Texts, trimmed as the markers beside them say, and the tokens of each action."""
    at, trims_next = 0, False
    for match in _ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip(_SPACES) if trims_next else text
        text = text.rstrip(_SPACES) if match[1] else text
        if text:
            yield text
        yield _tokens(match[2])
        at, trims_next = match.end(), bool(match[3])
    rest = template[at:].lstrip(_SPACES) if trims_next else template[at:]
    if rest:
        yield rest


def _tokens(action: str) -> list[str]:
    """The tokens of an action. Raises ValueError for a character that begins none."""
    tokens, at = [], 0
    while at < len(action.rstrip()):
        match = _TOKEN.match(action, at)
        if match is None:
            raise ValueError(f"not understood: {action[at:]}")
        tokens.append(match[1])
        at = match.end()
    return tokens


def _parse(pieces: Sequence[str | list[str]], at: int) -> tuple[list[Node], int]:
    """The nodes from a piece up to the `end` or `else` that closes them, and the place of that."""
    nodes: list[Node] = []
    while at < len(pieces):
        piece = pieces[at]
        if isinstance(piece, str):
            nodes.append(Text(piece.encode()))
            at += 1
            continue
        match piece[0]:
            case "end" | "else":
                return nodes, at
            case "if":
                node, at = _parse_branch(pieces, at, piece[1:])
                nodes.append(node)
            case "range":
                loop = _loop(piece[1:])
                loop.body, at = _parse(pieces, at + 1)
                nodes.append(loop)
            case _:
                nodes.append(_action(piece))
        at += 1
    return nodes, at


def _parse_branch(pieces: Sequence[str | list[str]], at: int, condition: list[str]) -> tuple[Branch, int]:
    """An if from its place on, and the place of its end; `else if` is an if in the else."""
    branch = Branch(_expression(condition))
    branch.then, at = _parse(pieces, at + 1)
    if pieces[at][0] == "else":
        words = pieces[at][1:]
        if words and words[0] == "if":
            inner, at = _parse_branch(pieces, at, list(words[1:]))
            branch.otherwise = [inner]
            return branch, at
        branch.otherwise, at = _parse(pieces, at + 1)
    return branch, at


def _loop(tokens: list[str]) -> Loop:
    place = tokens.index(":=")
    return Loop([token for token in tokens[:place] if token != ","], _expression(tokens[place + 1 :]))


def _action(tokens: list[str]) -> Action:
    if len(tokens) > 1 and tokens[1] in (":=", "="):
        return Action(_expression(tokens[2:]), tokens[0], tokens[1] == ":=")
    return Action(_expression(tokens))


def _expression(tokens: Sequence[str]) -> list[Any]:
    """A command: its words, with those in parentheses as lists of their own. Raises ValueError for a lone one."""
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            inner = stack.pop()
            stack[-1].append(inner)
        else:
            stack[-1].append(token)
    (words,) = stack
    return words


def _run(nodes: Sequence[Node], scopes: _Scopes, dot: Any, out: list[bytes]) -> None:
    """Executes nodes in the scope that is open, writing to `out`."""
    for node in nodes:
        match node:
            case Text(text):
                out.append(text)
            case Action(pipeline, None):
                out.append(_written(_value(pipeline, scopes, dot)))
            case Action(pipeline, str(name), declares):
                (scopes.declare if declares else scopes.assign)(name, _value(pipeline, scopes, dot))
            case Branch(condition, then, otherwise):
                scopes.push()
                _run(then if _value(condition, scopes, dot) else otherwise, scopes, dot, out)
                scopes.pop()
            case Loop(names, over, body):
                items = _value(over, scopes, dot)
                for index, item in enumerate(range(items) if isinstance(items, int) else items):
                    scopes.push()
                    for name, value in zip(names, [index, item][-len(names) :], strict=True):
                        scopes.declare(name, value)
                    _run(body, scopes, item, out)
                    scopes.pop()


def _written(value: Any) -> bytes:
    """A value as Go prints it: texts as they are, numbers in digits."""
    return value if isinstance(value, bytes) else str(value).encode()


def _value(words: Any, scopes: _Scopes, dot: Any) -> Any:
    """The value of an operand or of a call. Raises ValueError for an unknown function."""
    if isinstance(words, str):
        return _operand(words, scopes, dot)
    name, *rest = words
    if isinstance(name, str) and name in FUNCTIONS:
        return FUNCTIONS[name](*[_value(word, scopes, dot) for word in rest])
    if rest:
        raise ValueError(f"no function {name}")
    return _value(name, scopes, dot)


def _operand(word: str, scopes: _Scopes, dot: Any) -> Any:
    """A constant, a variable, or a field of one or of dot."""
    if word.startswith('"'):
        return json.loads(word).encode()
    if word in ("true", "false"):
        return word == "true"
    if word.lstrip("-").isdigit():
        return int(word)
    name, *fields = word.split(".")
    value = scopes.get(name) if name else dot
    for field_name in fields:
        value = value[field_name]
    return value


def _slice(value: Any, start: int, end: int | None = None) -> Any:
    """A part of a text or list. Raises ValueError outside of it, as Go does."""
    stop = len(value) if end is None else end
    if not 0 <= start <= stop <= len(value):
        raise ValueError("slice out of range")
    return value[start:stop]


def _printf(format: bytes, *values: bytes) -> bytes:
    assert format == b"%s" * len(values)
    return b"".join(values)


FUNCTIONS: Mapping[str, Any] = {
    "eq": lambda first, *others: first in others,
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "len": len,
    "index": lambda value, place: value[place],
    "slice": _slice,
    "printf": _printf,
}
