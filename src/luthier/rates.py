"""How fast and how large earlier runs were on this machine: a small file in the data folder, read by estimates."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.durable import write_durably

FILE = "rates.json"
_TENTH = 10


@dataclass(frozen=True, slots=True)
class Rate:
    """What a whole run came to: its trained tokens, and its seconds with validation and checkpoints."""

    tokens: int
    seconds: float
    peak_memory_bytes: int


def read(data_folder: Path) -> dict[str, Rate]:
    """The last telling run of each base model; nothing where there was none, or the file cannot be read."""
    try:
        told = json.loads((data_folder / FILE).read_bytes())
        return {str(name): Rate(**rate) for name, rate in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note(data_folder: Path, base_model: str, rate: Rate) -> None:
    """Remembers a run, unless it was so short beside the one that is known that it says less. Raises NoSpace."""
    known = read(data_folder)
    before = known.get(base_model)
    if rate.seconds <= 0 or (before is not None and rate.tokens * _TENTH < before.tokens):
        return
    known[base_model] = rate
    data_folder.mkdir(parents=True, exist_ok=True)
    write_durably(data_folder / FILE, json.dumps({name: asdict(one) for name, one in known.items()}, indent=2).encode())
