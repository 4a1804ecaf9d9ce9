"""The provenance in a model's manifest: hashes of all inputs, versions of the software, hardware."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from luthier import manifest
from luthier.manifest import Files, Hardware, Lineage, Manifest
from luthier.model_folder import BaseModelFolder, CheckpointFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.cpu import kernels

_PACKAGES = ("luthier", "torch", "transformers", "peft", "safetensors", "tokenizers")
_OWN_CODE = ("trainer", "data")
_CODE_FILES = ("*.py", "*.cpp", "*.h")
_DECIDING_ISA = ("amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16", "bf16", "sve")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is equal for every checkpoint of a run: gathered once, since base weights take seconds to hash.

    `inputs` are the sha256 (hex) of files by their names in the manifest; those of the data files are added once they
    are read (`with_data_files`). `parent_adapter` is the sha256 of the weights continued from, None without a parent.
    """

    spec: TrainSpec
    inputs: dict[str, str]
    versions: dict[str, str]
    hardware: Hardware
    parent_adapter: str | None

    def with_data_files(self, sha256: Mapping[str, str]) -> "Origin":
        """A copy with the sha256 of data files added, by their names in the manifest."""
        return replace(self, inputs={**self.inputs, **sha256})

    def inputs_and_versions(self) -> bytes:
        """What must be equal on all machines of a run: the spec, the bytes of all files, versions of the software."""
        spec = self.spec.model_dump_json(exclude={"base_folder", "threads"})
        return json.dumps([spec, self.inputs, self.versions, self.parent_adapter], sort_keys=True).encode()

    def tokens_key(self, file_sha256: str) -> str:
        """A hash of everything that the tokens of a data file depend on: the key of the token cache."""
        parts = [file_sha256, self.inputs["tokenizer"], self.inputs["chat_template"]]
        spec, versions = self.spec, self.versions
        parts += [str(spec.context_tokens), *spec.abilities, *(f"{one} {versions[one]}" for one in sorted(versions))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def manifest(self, step: int, epoch: int, adapter_sha256: str) -> Manifest:
        """The manifest of one checkpoint; `adapter_sha256` is that of its trained weights, an adapter's or all."""
        spec = self.spec
        return Manifest(
            step=step,
            epoch=epoch,
            spec=manifest.spec_content(spec),
            threads=torch.get_num_threads(),
            files=Files(**self.inputs, adapter=adapter_sha256),
            versions=self.versions,
            hardware=self.hardware,
            lineage=Lineage(
                job_id=spec.job_id,
                base_model=spec.base_model,
                parent_model=spec.parent_model,
                parent_adapter=self.parent_adapter,
            ),
        )


def gather(run: RunDirectory, spec: TrainSpec, place: torch.device) -> Origin:
    """The origin of a run on the device `place`. Reads each file of the base model and of the parent once, whole."""
    hf = BaseModelFolder(spec.base_folder).hf
    inputs = {
        "base_weights": hf.weights,
        "tokenizer": hf.tokenizer,
        "chat_template": hf.chat_template,
    }
    return Origin(
        spec=spec,
        inputs={name: manifest.sha256_of(path) for name, path in inputs.items()},
        versions=_versions(),
        hardware=_hardware(place),
        parent_adapter=manifest.sha256_of(CheckpointFolder(run.parent).tuned_weights) if spec.continued else None,
    )


def _versions() -> dict[str, str]:
    """Versions of Python and the libraries, and hashes of our own code and kernels.

    The code is hashed because its version says little between releases.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    root = Path(__file__).parents[2]
    code = hashlib.sha256()
    for path in sorted(path for folder in _OWN_CODE for kind in _CODE_FILES for path in (root / folder).rglob(kind)):
        code.update(path.read_bytes())
    return versions | {"luthier_code": code.hexdigest(), "kernels": kernels.identity()}


def _hardware(place: torch.device) -> Hardware:
    """Processor, usable cores and the vector instructions that kernels choose by; a GPU's name if `place` is one."""
    capabilities = torch.cpu.get_capabilities()
    isa = [torch.backends.cpu.get_cpu_capability(), *(name for name in _DECIDING_ISA if capabilities.get(name))]
    return Hardware(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        isa=" ".join(isa),
        gpu=torch.cuda.get_device_name(place) if place.type == "cuda" else None,
    )


def _cpu() -> str:
    """The processor's model name from /proc/cpuinfo; its architecture if that has none, as on ARM Linux."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
