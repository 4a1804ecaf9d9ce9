"""`python -m luthier.model_source.trial_load FOLDER`: loads a tokenizer and a chat template in a child process
with resource limits.

What an untrusted file makes a library do is found out where it can do no harm: the kernel limits the process's memory
and processor time. Prints one JSON object: `fault` says what is wrong, or is null.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from luthier import model_folder
from luthier.core.errors import InvalidRequest
from luthier.process import child_environment

MAX_MEMORY_BYTES = 6 * 1024**3
MAX_CPU_S = 60
MAX_WALL_S = 600
"""Beyond the processor time only on a machine that is very busy."""
_SAMPLE_TEXT = "The Pacific Ocean, as if it were 1 small pond?\n\n\tÀ côté, 12345 _ […] <|im_start|> 汉字   "


def check_loadable(folder: Path, source: Path) -> None:
    """Raises InvalidRequest if the folder's tokenizer or template cannot be used; `source` is where they come from.

    Starts this module as a process without credentials and waits for its end, MAX_WALL_S at most.
    """
    try:
        completed = subprocess.run(
            [sys.executable, "-m", "luthier.model_source.trial_load", str(folder)],
            capture_output=True,
            timeout=MAX_WALL_S,
            check=False,
            env=child_environment.to_compute(os.environ),
        )
    except subprocess.TimeoutExpired:
        raise _refused(source, f"cannot be tried out within {MAX_WALL_S} seconds") from None
    lines = completed.stdout.splitlines()
    try:
        fault = json.loads(lines[-1])["fault"] if lines else _crash_fault(completed.returncode, completed.stderr)
    except ValueError:
        fault = _crash_fault(completed.returncode, completed.stderr)
    if fault is not None:
        raise _refused(source, str(fault))


def _refused(source: Path, fault: str) -> InvalidRequest:
    """The error for files that cannot be used, on behalf of whoever pulls the model."""
    return InvalidRequest(
        "damaged_source", f"{source}: {fault}. Fetch the model again, name another template, or choose another model."
    )


def _crash_fault(status: int, stderr: bytes) -> str:
    """Why the child ended without an answer, from its exit status (negative: a signal) and the end of its stderr."""
    if -status in (signal.SIGXCPU, signal.SIGKILL):
        return f"its tokenizer and chat template take more than {MAX_CPU_S} seconds of processor time"
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    reason = lines[-1].removeprefix("Exception: ")[:200] if lines else f"status {status}"
    if status < 0 or reason.startswith("MemoryError"):
        return f"its tokenizer or chat template needs more than {MAX_MEMORY_BYTES // 1024**3} GiB of memory ({reason})"
    return f"tokenizer.json cannot be loaded ({reason})"


def main(arguments: list[str]) -> int:
    """The child: loads the files of a folder and prints the result; the kernel kills the process beyond its limits.

    Lowers the limits of the whole process, for good. Returns 0 also if a fault was found; an unusable tokenizer raises.
    """
    folder = Path(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S + 5))
    _try_tokenizer(folder / model_folder.TOKENIZER)
    fault = _template_fault(folder / model_folder.CHAT_TEMPLATE)
    sys.stdout.write(json.dumps({"fault": fault}) + "\n")
    return 0


def _try_tokenizer(path: Path) -> None:
    """Loads the tokenizer and encodes long texts of several kinds; nothing if there is no file.

    What the library raises ends the process: `_crash_fault` reads it.
    """
    if not path.exists():
        return
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))  # what it raises ends the process with its words
    for text in (_SAMPLE_TEXT * 20, "a" * 20_000, " " * 20_000, "é\n" * 10_000, "汉" * 20_000, "1" * 20_000):
        tokenizer.encode(text, add_special_tokens=False)


def _template_fault(path: Path) -> str | None:
    """What is wrong with a chat template, for the end of a sentence; None if nothing, or if there is no file.

    Compiles it in the sandbox and renders a short chat, one of many turns and one of long messages.
    """
    if not path.exists():
        return None
    import jinja2

    from luthier.chat_templates import sandbox
    from luthier.chat_templates.render_cost import TooCostly

    names = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|end|>")
    try:
        template = sandbox.compile_template(path.read_text("utf-8"), names)
    except UnicodeDecodeError as error:
        return f"the chat template is not UTF-8 (byte {error.start:,})"
    except jinja2.TemplateSyntaxError as error:
        return f"the chat template is not right in line {error.lineno}: {str(error.message)[:200]}"
    except jinja2.TemplateError as error:
        return f"the chat template cannot be used: {str(error)[:200]}"
    for messages in (_chat(1, 20), _chat(64, 20), _chat(1, 2000)):
        try:
            sandbox.render(template, messages, (), True)
        except TooCostly as error:
            return f"the chat template costs too much: {error}"
        except jinja2.TemplateError:
            pass  # one that refuses such a chat is judged by trainer.prepare, with the model's own words
    return None


def _chat(turns: int, lines: int) -> list[dict[str, Any]]:
    """Messages of so many turns of user and assistant; `lines` is how often each repeats the sample text."""
    return [{"role": role, "content": _SAMPLE_TEXT * lines} for _ in range(turns) for role in ("user", "assistant")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
