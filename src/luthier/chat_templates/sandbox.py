"""Where chat templates run: a sandbox that counts, so that no template takes more time or memory than is set here.

Templates come with models that anyone may have published. jinja2's own sandbox keeps them away from Python's insides
and bounds nothing else. Here a template sees the few filters and methods that chats need; every loop, call, comparison
and operator takes from an allowance (render_cost), and a value is weighed before it is made. What the allowance leaves
is a second or two of time, and a few hundred megabytes, whatever the template and the chat.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes as nodes
import jinja2.sandbox
import jinja2.visitor
from jinja2.runtime import Context

from luthier.chat_templates import filters, render_cost
from luthier.chat_templates.render_cost import TooCostly

MAX_SOURCE_CHARACTERS = 256 * 1024
MAX_SOURCE_NODES = 50_000
MAX_DEPTH = 60
"""How deep a template's statements and expressions may be nested: Python's compiler takes little more."""

_NODE_NAMES = (
    "Template Output TemplateData For If Macro FilterBlock With Assign AssignBlock ExprStmt Break Continue Scope Name "
    "NSRef Const Tuple List Dict Pair Keyword CondExpr Filter Test Call Getitem Getattr Slice Concat Compare Operand "
    "Mul Div FloorDiv Add Sub Mod Pow Not Neg Pos And Or CallBlock"
)
_NODES = frozenset(_NODE_NAMES.split())
_MAX_INDENT = 16
_GATHERED_ARGUMENTS = ("varargs", "kwargs")
_TEXT_METHODS = (
    "strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title capitalize find rfind "
    "index count join removeprefix removesuffix isdigit isalpha isalnum isnumeric isspace islower isupper partition "
    "rpartition"
)
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset(("items", "keys", "values", "get")),
    list: frozenset(("index", "count")),
    tuple: frozenset(("index", "count")),
    int: frozenset(),
    float: frozenset(),
    type(None): frozenset(),
}


def compile_template(source: str, names: Mapping[str, str]) -> jinja2.Template:
    """A template for `render`; `names` are the variables with the texts of special tokens (bos_token, ...).

    Raises jinja2.TemplateError for a template with an error or with more than chats need, TooCostly (one of these too)
    for one that is too large or nested too deeply.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise TooCostly(f"the template has {len(source):,} characters; at most {MAX_SOURCE_CHARACTERS:,} are read")
    with render_cost.allowance():
        try:
            template = _environment().from_string(source)
        except (RecursionError, SyntaxError, MemoryError) as error:
            # Python's own compiler has bounds of nesting too.
            raise TooCostly("the template is nested too deeply to be compiled") from error
    # One plain dictionary: jinja2's chain of two costs half of a short chat's rendering.
    template.globals = dict(template.globals) | dict(names)
    return template


def render(
    template: jinja2.Template,
    messages: Sequence[Mapping[str, object]],
    tools: Sequence[Mapping[str, object]],
    add_generation_prompt: bool,
) -> str:
    """The template's text for a chat; it also sees tools as None if there are none, and no documents.

    Raises TooCostly beyond the allowance, jinja2.TemplateError where the template refuses the chat or fails on it.
    """
    values = {
        "messages": messages,
        "tools": tools or None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    with render_cost.allowance():
        try:
            context = template.new_context(values)
            return render_cost.join_pieces(template.root_render_func(context))
        except RecursionError:
            raise TooCostly("the template calls itself too deeply") from None
        except MemoryError:
            raise TooCostly("the template needs more memory than there is") from None
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            # Those of a template that expects what the chat has not.
            raise jinja2.TemplateError(f"{type(error).__name__} in the template") from error


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Compiles templates so that what they do is counted, and allows only the attributes and methods of _METHODS."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(render_cost.join_pieces)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        """Checks a parsed template, puts the counting filters in, and compiles it. Raises jinja2.TemplateError."""
        _refuse_unknown(source)
        return super()._generate(_CostInstrumentation().visit(source), name, filename, defer_init)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Computes an intercepted operator, charged. jinja2 calls it from compiled templates."""
        if operator == "+" and type(left) is str and type(right) is str:
            return render_cost.concatenate(left, right)
        return render_cost.apply_operator(operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Charges a call, then makes it as jinja2's sandbox does."""
        render_cost.charge_call(__obj, args)
        return super().call(__context, __obj, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read an attribute: jinja2 allows it, and for plain values _METHODS lists it."""
        known = next((names for kind, names in _METHODS.items() if isinstance(obj, kind)), None)
        return super().is_safe_attribute(obj, attr, value) and (known is None or attr in known)

    def wrap_str_format(self, value: Any) -> None:
        """None, for no template formats by str.format: `is_safe_attribute` leaves these methods out."""


class _CostInstrumentation(jinja2.visitor.NodeTransformer):
    """Changes a template's syntax tree: wraps what loops, grows or compares in a filter that counts.

    Templates cannot write these filters' names themselves.
    """

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        """Counts the turns of a loop."""
        self.generic_visit(node)
        node.iter = _wrap_filter(node.iter, filters.LOOP)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Counts the text that `~` makes."""
        self.generic_visit(node)
        return _wrap_filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), filters.CONCAT)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Counts what a comparison reads: both sides unless one is a constant, and whatever `in` looks through."""
        self.generic_visit(node)
        sides: list[Any] = [node, *node.ops]
        # Held against a constant, a value is read no further than that is long; what is looked through is read whole.
        if not any(isinstance(side.expr, nodes.Const) for side in sides):
            node.expr = _wrap_filter(node.expr, filters.STEP)
        for operand in node.ops:
            if operand.op in ("in", "notin") and not _is_constant(operand.expr):
                operand.expr = _wrap_filter(operand.expr, filters.STEP)
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._made(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._made(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._made(node)

    def _made(self, node: nodes.Tuple | nodes.List | nodes.Dict) -> nodes.Node:
        """Weighs a tuple, list or dict when it is made, unless it is a constant."""
        self.generic_visit(node)
        return node if all(map(_is_constant, node.items)) else _wrap_filter(node, filters.WEIGH)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Counts the size of a slice."""
        self.generic_visit(node)
        return _wrap_filter(node, filters.COPY) if isinstance(node.arg, nodes.Slice) else node


def _is_constant(node: nodes.Node) -> bool:
    """Whether a value is written out in the template, and so no larger than its text."""
    if isinstance(node, nodes.Tuple | nodes.List | nodes.Pair | nodes.Dict):
        return all(map(_is_constant, node.iter_child_nodes()))
    return isinstance(node, nodes.Const)


def _wrap_filter(node: Any, name: str) -> nodes.Filter:
    """The expression with a filter of this name applied to it."""
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _refuse_unknown(source: nodes.Template) -> None:
    """Raises jinja2.TemplateError for statements that no chat template needs, TooCostly for too many or too deep."""
    count = 0
    level: list[nodes.Node] = [source]
    for _ in range(MAX_DEPTH):
        count += len(level)
        for node in level:
            if type(node).__name__ not in _NODES or (isinstance(node, nodes.For) and node.recursive):
                word = "loop" if isinstance(node, nodes.For) else type(node).__name__.lower()
                raise jinja2.TemplateError(f"line {node.lineno} has a {word} of a kind that no chat template may have")
            if isinstance(node, nodes.Name) and node.name in _GATHERED_ARGUMENTS:
                raise jinja2.TemplateError(f"line {node.lineno} uses {node.name}, which no chat template may")
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            break
    if level:
        raise TooCostly(f"the template is nested more than {MAX_DEPTH} deep")
    if count > MAX_SOURCE_NODES:
        raise TooCostly(f"the template has {count:,} parts; at most {MAX_SOURCE_NODES:,} are taken")


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    """The one environment of the process, made on first use."""
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters = filters.counting_filters(_as_json)
    environment.globals = {
        "range": jinja2.sandbox.safe_range,
        "raise_exception": _refuse,
        "strftime_now": _now,
        "dict": _dict,
        "namespace": _namespace,
    }
    return environment


class _Generation(jinja2.ext.Extension):
    """The tag `{% generation %}`, by which some templates mark what the model wrote: only its content is kept."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The statements between the marks, without the marks; jinja2 calls it at the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _as_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter tojson as transformers has it, without HTML escapes. Raises TooCostly for too wide an indent."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise TooCostly(f"the template indents JSON by more than {_MAX_INDENT} spaces")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    # Piece by piece where it is indented: a deep value has more spaces than anything else.
    return encoder.encode(value) if indent is None else render_cost.join_pieces(encoder.iterencode(value))


def _refuse(message: str) -> None:
    """What templates call as raise_exception: always raises jinja2.TemplateError with their message."""
    raise jinja2.TemplateError(message)


def _now(format: str) -> str:
    """What templates call as strftime_now: the machine's local time, formatted."""
    return datetime.now().strftime(format)


def _dict(*pairs: Any, **more: Any) -> Any:
    """What templates call as dict. Raises TooCostly for one too heavy."""
    return render_cost.checked_weight(dict(*pairs, **more))


def _namespace(*pairs: Any, **more: Any) -> jinja2.utils.Namespace:
    """What templates call as namespace. Raises jinja2.TemplateError for names that begin with an underscore."""
    attributes = dict(*pairs, **more)
    if any(str(name).startswith("_") for name in attributes):
        raise jinja2.TemplateError("a namespace of the template has a private name")
    return _Namespace(attributes)


class _Namespace(jinja2.utils.Namespace):
    """A namespace whose text tells nothing of its content: namespaces can hold one another, over and over."""

    def __repr__(self) -> str:
        return "<Namespace>"
