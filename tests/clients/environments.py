"""Each client's own environment under .cache/clients, made from its list of pinned and hashed packages.

`python tests/clients/environments.py` makes all of them, or those it is given; a test makes the one that it needs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LISTS = Path(__file__).parent / "requirements"
CACHE = Path(__file__).parents[2] / ".cache" / "clients"
DONE = "installed"


def names() -> list[str]:
    return sorted([path.stem for path in LISTS.glob("*.txt")] + node_names())


def node_names() -> list[str]:
    """The clients whose packages are npm's: a folder with its two files each."""
    return sorted(path.parent.name for path in LISTS.glob("*/package-lock.json"))


def of_client(client: str) -> str:
    """The environment that a client's program runs in: several programs may share one."""
    return client.partition(" ")[0]


def prepare(name: str) -> Path:
    """The folder of a client's environment, made anew where its list has changed since."""
    is_node = name in node_names()
    source = LISTS / name / "package-lock.json" if is_node else LISTS / f"{name}.txt"
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    folder = CACHE / name
    mark = folder / DONE
    if mark.exists() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if is_node:
        _install_node(folder, source.parent)
    else:
        _install_python(folder, source)
    mark.write_text(wanted)
    return folder


def command(name: str, program: Path) -> list[str]:
    """How a drive program is run in a client's environment."""
    folder = prepare(name)
    if program.suffix != ".mjs":
        return [str(folder / "bin" / "python"), str(program)]
    for module in program.parent.glob("*.mjs"):  # Node looks for packages beside the program
        shutil.copyfile(module, folder / module.name)
    return ["node", str(folder / program.name)]


def _install_python(folder: Path, packages: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    # No dependencies beyond the list: it is whole, or leaves out on purpose what is gigabytes and not needed.
    only = ["--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([*pip, "install", "-q", *only, "-r", str(packages)], check=True)


def _install_node(folder: Path, packages: Path) -> None:
    if shutil.which("npm") is None:
        raise RuntimeError("npm is not on the PATH; the client matrix needs Node.js 20 or newer.")
    shutil.copytree(packages, folder)
    quiet = {**os.environ, "npm_config_update_notifier": "false"}
    line = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(line, cwd=folder, check=True, env=quiet)


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        print(f"== {each}", flush=True)
        prepare(each)
