"""Text that Python's print or str made of a dict or list -> the value it had, only if JSON can say the same.

Such text is in files that were written without json.dumps. It is parsed, never evaluated.
"""

import ast
import json
import re
import warnings

MAX_CHARACTERS = 4 * 1024 * 1024
"""A longer text is not looked at: the tree of a literal takes some hundred times its size."""
_MAX_DEPTH = 100
_SOURCE = "<python literal>"
"""The file's name in what Python's parser says of a text: of 1if it warns, and would write so to a user's terminal."""
warnings.filterwarnings("ignore", category=SyntaxWarning, module=_SOURCE)
_OTHER_ESCAPE = re.compile(r"\\(?:\\|(?![\\'\"abfnrtvxuN0-7\n])(?P<other>.))")


def read(text: str) -> dict[str, object] | list[object] | None:
    """The dict or list; None for text that is no literal of one, or that would lose something as JSON.

    Tuples become arrays, as json.dumps writes them. A key twice, a set, bytes, a float that is not finite, half of a
    surrogate pair are refused.
    """
    text = text.strip()
    if text[:1] not in ("{", "[") or len(text) > MAX_CHARACTERS:
        return None
    if max(text.count("["), text.count("{")) > 20_000 or _has_other_escapes(text):
        return None
    try:
        value = _json_value(ast.parse(text, _SOURCE, "eval").body, 0)
        # Raises ValueError for a float that is not finite, and for half of a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (_NotJson, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict | list) else None


class _NotJson(Exception):
    """The literal holds what JSON does not have."""


def _has_other_escapes(text: str) -> bool:
    """Whether it has an escape that Python would warn of, as `d` behind a backslash: print writes none."""
    return any(match["other"] for match in _OTHER_ESCAPE.finditer(text))


def _json_value(node: ast.expr, depth: int) -> object:
    """The value of a literal's syntax node. Raises _NotJson for what JSON cannot say, and beyond _MAX_DEPTH."""
    if depth > _MAX_DEPTH:
        raise _NotJson
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(operand=ast.Constant(value=bool())):
            raise _NotJson
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_json_value(element, depth + 1) for element in elements]
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
                raise _NotJson
            return {str(name): _json_value(value, depth + 1) for name, value in zip(names, values, strict=True)}
    raise _NotJson
