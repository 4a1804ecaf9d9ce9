"""What published validators say of our corpus of faulty files: `make peers-check` prints the table of docs/doctor.md.

Each runs in a process of its own, with its package in a folder of its own. The rules of OpenAI's cookbook (its notebook
on preparing data for chat models) are no package: they stand here in our words.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_CACHE = ROOT / ".cache"


@dataclass(frozen=True, slots=True)
class Said:
    """What a validator did with a file: `line` is the one that it names."""

    reported: bool
    line: int | None = None
    crashed: bool = False


def _together_3(path: Path) -> Said:
    from together.lib.utils.files import check_file

    return _of_together(check_file(path))


def _together_1(path: Path) -> Said:
    from together.utils.files import check_file

    return _of_together(check_file(path))


def _of_together(told: dict[str, Any]) -> Said:
    named = re.search(r"line (\d+)", str(told.get("message")))
    line = told.get("line_number") or (int(named[1]) if named else None)
    return Said(not told["is_check_passed"], line)


def _prepare_data(path: Path) -> Said:
    """What `openai tools fine_tunes.prepare_data` does before it asks anything; it ends the process at an error."""
    _validators = importlib.import_module("openai.lib._validators")  # openai 1.x has it, later versions do not

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            frame, remediation = _validators.read_any_format(str(path))
            _validators.apply_necessary_remediation(None, remediation)
            for validator in _validators.get_validators():
                remediation = validator(frame)
                if remediation is not None:
                    frame = _validators.apply_necessary_remediation(frame, remediation)
    except SystemExit:
        return Said(True)
    return Said("ERROR" in printed.getvalue())


def _cookbook(path: Path) -> Said:
    """The notebook loads all lines, then counts faults by kind, and names no line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
    return Said(any(_cookbook_refuses(row) for row in rows))


def _cookbook_refuses(row: Any) -> bool:
    if not isinstance(row, dict) or not row.get("messages"):
        return True
    turns = row["messages"]
    return not any(turn.get("role") == "assistant" for turn in turns) or any(
        not {"role", "content"} <= turn.keys()
        or turn.keys() - {"role", "content", "name", "function_call", "weight"}
        or turn["role"] not in ("system", "user", "assistant", "function")
        or not isinstance(turn["content"], str)
        or not (turn["content"] or turn.get("function_call"))
        for turn in turns
    )


def _luthier(path: Path) -> Said:
    from luthier.core.states import Method
    from luthier.data.checks import validate
    from luthier.data.problems.problem import Severity

    method = Method.DPO if path.stem.endswith("-dpo") else Method.SUPERVISED
    report = validate.check_file([path.read_bytes()], None, 1, method)
    lines = [problem.line for problem in report.problems if problem.severity is Severity.ERROR and problem.line]
    return Said(report.n_errors > 0, lines[0] if lines else None)


PEERS: dict[str, tuple[Callable[[Path], Said], tuple[str, ...]]] = {
    "Luthier": (_luthier, ()),
    "Together 3.1.1, `check_file`": (_together_3, ("together-3.1.1",)),
    "Together 1.6.0, `check_file`": (_together_1, ("together-1.6.0", "together-3.1.1")),
    "OpenAI's cookbook, rules of the notebook": (_cookbook, ()),
    "openai 1.109.1, `fine_tunes.prepare_data`": (_prepare_data, ("openai-1.109.1", "together-3.1.1")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps([_asked(PEERS[options.peer][0], path) for path in sorted(options.folder.iterdir())]))
        return
    from bench.peers_files import FAULTY, PARTS, RIGHT, write

    print(f"| | {' | '.join(PARTS)} | right line | crashed | false alarms |")
    print("|---" * (len(PARTS) + 4) + "|")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for peer in PEERS:
            said = _ask(peer, Path(folder))
            faulty, right = list(zip(said, FAULTY, strict=False)), said[len(FAULTY) :]
            cells = []
            for part in PARTS:
                of_part = [one.reported for one, file in faulty if file.part == part]
                cells.append(f"{sum(of_part)}/{len(of_part)}")
            lines = [one.line in file.lines for one, file in faulty if file.lines]
            cells += [
                f"{sum(lines)}/{len(lines)}",
                f"{sum(one.crashed for one in said)}",
                f"{sum(one.reported or one.crashed for one in right)}/{len(RIGHT)}",
            ]
            print(f"| {peer} | {' | '.join(cells)} |", flush=True)


def _ask(peer: str, folder: Path) -> list[Said]:
    """What a validator says of each file of a folder, in the order of their names."""
    paths = [str(_CACHE / package / "site-packages") for package in PEERS[peer][1]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT), str(ROOT / "src")])}
    command = [sys.executable, "-m", "bench.peers_check", "--peer", peer, "--folder", str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [Said(*one) for one in json.loads(done.stdout.splitlines()[-1])]


def _asked(check: Callable[[Path], Said], path: Path) -> tuple[bool, int | None, bool]:
    try:
        said = check(path)
    except Exception:  # a validator that raises has crashed, whatever it raised
        said = Said(False, None, True)
    return said.reported, said.line, said.crashed


if __name__ == "__main__":
    main()
