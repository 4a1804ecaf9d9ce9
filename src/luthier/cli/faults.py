"""Errors that a user can fix, as one line that names what is wrong, where, and the fix; never a traceback. Used by
`main` for every command, and by `serve` for its settings.

Only our own bugs are a traceback: whoever reports one needs it.
"""

import errno
import io
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import typer
from pydantic import ValidationError

from luthier import validation_messages
from luthier.catalog import CatalogError
from luthier.cli.screen import errors, fail
from luthier.core.errors import LuthierError
from luthier.settings import FILE, Settings

PIPE_CLOSED = 128 + 13
"""Exit code after SIGPIPE, as a shell reports it."""
_OF_STDOUT = frozenset({errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF})
_EXTRAS = {"matplotlib": "plot", "torch": "train", "transformers": "train", "peft": "train", "xllamacpp": "serve-cpu"}
_PREFIX = "LUTHIER_"
_MAY_HOLD_A_KEY = frozenset(
    {"blobs_url", "oidc_issuer", "engine_url", "engine_host_url", "mlflow_uri", "wandb_url"}
) | {name for name, setting in Settings.model_fields.items() if "SecretStr" in str(setting.annotation)}


@contextmanager
def as_refused_start(given: Mapping[str, Any]) -> Iterator[None]:
    """Ends the command with one line and exit code 1 for whatever keeps a service from starting; `given` are the
    settings of its options.
    """
    try:
        yield
    except tomllib.TOMLDecodeError as error:
        fail(f"Luthier cannot start: {invalid_toml(error)}")
    except ValidationError as error:
        fail(f"Luthier cannot start: {invalid_settings(error, given)}")
    except LuthierError as error:
        fail(f"Luthier cannot start: {error.message}")
    except OSError as error:
        fail(f"Luthier cannot start: {error.filename or Settings(**given).data_dir}: {error.strerror}")
    except ValueError as error:
        fail(f"Luthier cannot start: {error}")


def end_command(error: BaseException) -> None:
    """Ends the command with one line and exit code 1 for an error that its user can fix, and for an error of writing to
    stdout with `stdout_exit_code`. Returns for every other, which the caller then lets pass as a traceback.
    """
    match error:
        case LuthierError():
            fail(error.message, code=error.code, param=error.param)
        case CatalogError():
            fail(str(error))
        case tomllib.TOMLDecodeError():
            fail(invalid_toml(error))
        case ValidationError() if error.title == Settings.__name__:
            fail(invalid_settings(error))
        case ModuleNotFoundError() if error.name in _EXTRAS:
            extra = _EXTRAS[error.name]
            fail(f"This needs {error.name}, which is not installed. Run: pip install 'luthier[{extra}]'")
        case OSError() if error.filename is not None:
            fail(f"{os.fsdecode(error.filename)}: {error.strerror}.")
        case OSError() if is_of_stdout(error):
            raise typer.Exit(stdout_exit_code(error)) from None


def is_of_stdout(error: OSError) -> bool:
    """Whether the error may be one of writing to stdout, such as a closed pipe or a full disk: it names no file."""
    return error.filename is None and error.errno in _OF_STDOUT


def stdout_exit_code(error: OSError) -> int:
    """Reports on stderr why stdout could not be written to, unless its reader closed the pipe; returns the exit code.
    Points stdout to /dev/null for the rest of the process.
    """
    # What is still buffered would be written, and fail, once more as the interpreter ends.
    with suppress(OSError, io.UnsupportedOperation, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    if error.errno == errno.EPIPE:
        return PIPE_CLOSED
    with suppress(OSError):
        errors.print(f"stdout could not be written to: {error.strerror}.", style="red", highlight=False)
    return 1


def invalid_toml(error: tomllib.TOMLDecodeError) -> str:
    return f"{FILE} is not TOML: {error}."


def invalid_settings(error: ValidationError, options: Mapping[str, object] | None = None) -> str:
    """One line with each wrong setting: where it is set, its value unless that may be a key, and what it must be.
    `options` are the settings that were given on the command line.
    """
    lines = []
    for fault in error.errors(include_url=False):
        name = validation_messages.place(fault)
        if not fault["loc"]:
            lines.append(validation_messages.words(fault))
        elif fault["type"] == "extra_forbidden":
            hint = validation_messages.meant(name, Settings.model_fields)
            moved = ": it is server_key now" if name == "api_key" else hint or ": docs/operating.md lists them"
            lines.append(f"{name} of {FILE} is no setting{moved}")
        else:
            shown = "" if name in _MAY_HOLD_A_KEY else f" is {fault['input']!r}: it"
            lines.append(f"{_source(name, options or {})}{shown} {validation_messages.words(fault)}")
    return "; ".join(lines) + "."


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A warning for each LUTHIER_ variable that is nearly one of our settings: a typo would be ignored silently. Empty
    if there is none.
    """
    settings = [name.upper() for name in Settings.model_fields]
    warnings = []
    for variable in sorted(environment):
        name = variable.upper().removeprefix(_PREFIX)
        hint = validation_messages.meant(name, settings).replace("mean ", f"mean {_PREFIX}")
        if variable.upper().startswith(_PREFIX) and name not in settings and hint:
            warnings.append(f"{variable} is no setting{hint}")
    return warnings


def _source(name: str, options: Mapping[str, object]) -> str:
    """Where a setting's value is from, in words: an option, a variable or the settings file."""
    if name in options:
        return f"--{name.replace('_', '-')}"
    variable = _PREFIX + name.upper()
    return variable if variable in map(str.upper, os.environ) else f"{name} of {FILE}"
