"""Compiles C++ sources into a shared library with the machine's own compiler, once a machine and version.

The native engine (`engines/native/decoder`) and the trainer's CPU kernels (`trainer/cpu`) get their code from here.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from luthier.process import child_environment

COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 240


def compiler() -> str | None:
    """The path of the machine's C++ compiler, None if it has none."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def build(name: str, sources: Sequence[Path], headers: Sequence[Path], flags: Sequence[str]) -> Path | None:
    """The compiled library's path in the user's cache; None without a compiler, or if it does not compile the sources.

    The first call on a machine runs the compiler, for `_TIMEOUT_S` seconds at most; later ones find the file by its
    digest.
    """
    command = compiler()
    if command is None:
        return None
    try:
        return _built(command, name, sources, headers, flags)
    except (OSError, subprocess.SubprocessError):
        return None


def digest(command: str, sources: Sequence[Path], headers: Sequence[Path], flags: Sequence[str]) -> str:
    """What a library's bits depend on, as 16 hex digits: sources, headers, flags, compiler version and processor.

    Runs the compiler for its version. Raises OSError and SubprocessError.
    """
    texts = [path.read_text() for path in (*sources, *headers)]
    identity = [*texts, *flags, _version(command), platform.machine(), _processor()]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]


def _built(command: str, name: str, sources: Sequence[Path], headers: Sequence[Path], flags: Sequence[str]) -> Path:
    """The library's path in the cache; compiles it into a scratch folder and renames it into place if it is not there.

    Two processes may build it at once. Raises OSError and SubprocessError, also for sources that do not compile.
    """
    folder = Path(platformdirs.user_cache_dir("luthier")) / "kernels"
    library = folder / f"{name}-{digest(command, sources, headers, flags)}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            target = Path(scratch) / library.name
            arguments = [command, *flags, "-o", str(target), *map(str, sources)]
            subprocess.run(arguments, check=True, capture_output=True, timeout=_TIMEOUT_S, env=_environment())
            target.replace(library)
    return library


def _version(command: str) -> str:
    """What `command --version` prints, waited for 10 s at most. Raises OSError and SubprocessError."""
    arguments, environment = [command, "--version"], _environment()
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=10, env=environment).stdout


def _environment() -> dict[str, str]:
    return child_environment.to_compute(os.environ)


def _processor() -> str:
    """The instruction sets of the CPU, on which -march=native depends: machines that share a cache may have others."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
