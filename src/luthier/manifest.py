"""manifest.json beside each model: what it was made of, with what, and by whom; two of them compared.

The trainer writes it; `luthier reproduce` trains again by it and compares the new one with it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from luthier.core.states import Tuning
from luthier.run_directory.train_spec import TrainSpec, tuning_of

_EXPECTED_TO_DIFFER = ("step", "epoch", "files.adapter", "spec.threads", "spec.keep_checkpoints")


class _Value(BaseModel):
    """Base of what the file holds: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Files(_Value):
    """sha256, in hex, of the bytes of each file. `base_weights` are those that were trained on and are served."""

    training_file: str
    validation_file: str | None = None
    base_weights: str
    tokenizer: str
    chat_template: str
    adapter: str
    """Of the adapter, or of the tuned weights where all of them were tuned."""


class Hardware(_Value):
    """The machine that trained: `isa` names the vector instructions that the kernels choose by.

    They decide over the last bits. `gpu` is None for training on the CPU.
    """

    cpu: str
    cores: int
    isa: str
    gpu: str | None = None


class Lineage(_Value):
    """Where the model comes from: the base model, or the tuned model that the job went on from.

    `parent_adapter` is the sha256 of that model's adapter or tuned weights; both are None if there was none.
    """

    job_id: str
    base_model: str
    parent_model: str | None = None
    parent_adapter: str | None = None


class Manifest(_Value):
    """All that a model's bytes depend on. It holds no time and no path: equal runs write equal bytes.

    `step` and `epoch` are those of the checkpoint; `versions` are by the name of a library, Python among them.
    """

    version: Literal[1] = 1
    step: int
    epoch: int
    spec: dict[str, Any]
    """The TrainSpec without `base_folder`, which is a path of one machine."""
    threads: int
    files: Files
    versions: dict[str, str]
    hardware: Hardware
    lineage: Lineage

    @property
    def tuning(self) -> Tuning:
        return tuning_of(self.spec)

    def to_bytes(self) -> bytes:
        """The file's bytes: indented JSON with a final newline."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    def train_spec(self, base_folder: Path) -> TrainSpec:
        """The spec to train it again by: on as many threads as it was, and with every checkpoint kept.

        Raises pydantic's ValidationError where the stored spec is not valid in this version.
        """
        again = {"base_folder": base_folder, "threads": self.threads, "keep_checkpoints": self.spec["n_epochs"]}
        return TrainSpec.model_validate(self.spec | again)


def spec_content(spec: TrainSpec) -> dict[str, Any]:
    """The spec as a manifest holds it: JSON values, without `base_folder`."""
    return spec.model_dump(mode="json", exclude={"base_folder"})


def differences(kept: Manifest, fresh: Manifest) -> list[tuple[str, str, str]]:
    """(place, value in `kept`, value in `fresh`) for each field that differs; empty if the trainings were alike.

    Places are dotted names; a missing value is "None". Left out are the outcome and what a repetition sets differently.
    """
    before, after = dict(_flat(kept.model_dump())), dict(_flat(fresh.model_dump()))
    return [
        (place, str(before.get(place)), str(after.get(place)))
        for place in dict.fromkeys([*before, *after])
        if before.get(place) != after.get(place) and place not in _EXPECTED_TO_DIFFER
    ]


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hex; reads it once, whatever its size. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf of nested mappings with its dotted name; a list counts as a leaf."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
