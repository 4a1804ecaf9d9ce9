"""How a command line is parsed: groups of commands, their plain help, and one line for a wrong option or argument. Used
by `main` and by every module of `cli` with a group of commands.

typer's Rich help and errors are not used: they take longer than the rest of `luthier --help`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

USAGE_ERROR = 2
"""Exit code for a command line that cannot be understood."""
_TYPERS_FLAGS = frozenset({"help", "install_completion", "show_completion"})
_ARGUMENTS = "luthier.arguments"
"""In a context's `meta`: what followed the command's name, which says whether an error is printed as JSON."""
_WHOLE = 1000
"""A limit on summaries that cuts none."""
CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Command(TyperCommand):
    """A command whose help lists its options by panel, and whose usage errors are one line and exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's, which fills `ctx.params`; an unusable argument ends the command with one line and exit code 2."""
        from luthier.cli import screen  # the command's module has imported it; the top's help should not wait for it

        screen.begin(args)
        ctx.meta[_ARGUMENTS] = list(args)
        with _usage_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As typer's: runs the command's function. A BadParameter that it raises is a usage error too."""
        with _usage_errors(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options and arguments to the formatter, those of each panel under its own heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(_section(parameter), []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Group(TyperGroup):
    """A group of commands. Without a command it prints its help and ends with exit code 2."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer's, but changes the default of typer's own flags, so that the help need not import pydantic."""
        parameters = list(super().get_params(ctx))
        for parameter in parameters:
            if parameter.name in _TYPERS_FLAGS:
                parameter.default = False  # typer has None, and imports pydantic to validate it
        return parameters

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's; without any argument it prints the group's help to stderr and ends with exit code 2."""
        ctx.meta[_ARGUMENTS] = list(args)
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(USAGE_ERROR)
        with _usage_errors(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's: name, command and the remaining arguments. An unknown name ends the command with exit code 2 and,
        where one is near, the name that was probably meant.
        """
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            from luthier import validation_messages

            _fail(f"There is no command {args[0]!r}{validation_messages.meant(args[0], names)}.", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As typer's: runs the command that was named; usage errors end it with one line and exit code 2."""
        with _usage_errors(ctx):
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes each command that is not hidden to the formatter, with its whole summary, however long."""
        shown = [(name, command) for name, command in self.commands.items() if not command.hidden]
        rows = [(name, command.get_short_help_str(_WHOLE)) for name, command in shown]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class CommandGroup(typer.Typer):
    """Commands under one name, such as `luthier jobs`."""

    def __init__(self, help: str) -> None:
        super().__init__(help=help, cls=Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """As typer's decorator, with our `Command`: its usage errors and its help are plain."""
        return super().command(name, cls=Command, **options)


def single_command(name: str, function: Callable[..., None]) -> Any:
    """The command `name`, which calls `function`, ready to run."""
    group = CommandGroup(help="")
    group.command(name)(function)
    return typer.main.get_command(group)


def group_of(commands: typer.Typer) -> TyperGroup:
    """The group with its commands in it, ready to run."""
    return typer.main.get_group(commands)


@contextmanager
def _usage_errors(context: typer.Context) -> Iterator[None]:
    """Ends the command with one line and exit code 2 where typer, in the block, finds the command line wrong."""
    try:
        yield
    except typer.TyperException as error:
        _fail(_message(error), context)


def _fail(message: str, context: typer.Context) -> None:
    """Prints the message, as one line, with a pointer to the command's help, and ends the command with exit code 2."""
    from luthier.cli import screen

    screen.begin(context.meta.get(_ARGUMENTS, []))
    message = f"{' '.join(message.split())} See: {context.command_path} --help"
    screen.fail(message, USAGE_ERROR, "usage")


def _message(error: typer.TyperException) -> str:
    """What is wrong, with the option's name, its value and what it must be; pydantic's words are replaced by ours."""
    if not isinstance(error, typer.BadParameter) or not error.message:  # without one it is a missing parameter
        return error.format_message().removesuffix(".") + "."
    hint = error.param_hint or (error.param.get_error_hint() if error.param is not None else "value")
    name = (hint if isinstance(hint, str) else " / ".join(hint)).strip("'")
    if error.__cause__ is None:
        return f"{name}: {error.message}"
    return f"{name}{_of_value(error)}"


def _of_value(error: typer.BadParameter) -> str:
    """The rest of the sentence for a value that its type refused; the error's cause must be pydantic's
    ValidationError.
    """
    from pydantic import ValidationError

    from luthier import validation_messages

    assert isinstance(error.__cause__, ValidationError)
    fault = error.__cause__.errors(include_url=False)[0]
    choices = None if error.param is None else error.param.type_descriptor.choices
    if choices is not None:
        *others, last = map(str, choices)
        return f" is {fault['input']!r}: it must be {', '.join(others)} or {last}."
    if fault["type"] == "value_error":
        return f": {validation_messages.words(fault).removesuffix('.')}."
    return f" is {fault['input']!r}: it {validation_messages.words(fault)}."


def _section(parameter: Any) -> str:
    """The heading of the help under which a parameter is listed."""
    if parameter.param_type_name == "argument":
        return "Arguments"
    return str(parameter.rich_help_panel) if isinstance(parameter.rich_help_panel, str) else "Options"
