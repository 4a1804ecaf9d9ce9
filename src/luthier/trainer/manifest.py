"""Gathers what a model's manifest tells: hashes of all that goes in, versions, hardware."""

import hashlib
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from luthier import manifest
from luthier.manifest import Files, Hardware, Lineage, Manifest
from luthier.run_directory import RunDirectory, TrainSpec
from luthier.trainer import kernels

_PACKAGES = ("luthier", "torch", "transformers", "peft", "safetensors", "tokenizers")
_OWN_CODE = ("trainer", "data")
_CODE_FILES = ("*.py", "*.cpp", "*.h")
_DECIDING_ISA = ("amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16", "bf16", "sve")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is equal for every checkpoint of a run: gathered once, for base weights take seconds to hash."""

    spec: TrainSpec
    inputs: dict[str, str]
    versions: dict[str, str]
    hardware: Hardware
    parent_adapter: str | None

    def tokens_key(self, name: str) -> str:
        """A hash of all that the tokens of a file follow from; `name` is one of the inputs."""
        parts = [self.inputs[part] for part in (name, "tokenizer", "chat_template")]
        spec, versions = self.spec, self.versions
        parts += [str(spec.context_tokens), *spec.abilities, *(f"{one} {versions[one]}" for one in sorted(versions))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def manifest(self, step: int, epoch: int, adapter_sha256: str) -> Manifest:
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
    """Reads every file of the run and of the base once, whole."""
    hf = spec.base_folder / "hf"
    inputs = {
        "training_file": run.training,
        "base_weights": spec.base_folder / manifest.WEIGHTS_FILE,
        "tokenizer": hf / "tokenizer.json",
        "chat_template": hf / "chat_template.jinja",
    }
    if spec.has_validation:
        inputs["validation_file"] = run.validation
    return Origin(
        spec=spec,
        inputs={name: manifest.sha256_of(path) for name, path in inputs.items()},
        versions=_versions(),
        hardware=_hardware(place),
        parent_adapter=manifest.sha256_of(manifest.tuned_weights(run.parent)) if spec.continued else None,
    )


def _versions() -> dict[str, str]:
    """Versions of all that computes. Our own number says little between releases, so the code's hash stands beside."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    root = Path(__file__).parents[1]
    code = hashlib.sha256()
    for path in sorted(path for folder in _OWN_CODE for kind in _CODE_FILES for path in (root / folder).rglob(kind)):
        code.update(path.read_bytes())
    return versions | {"luthier_code": code.hexdigest(), "kernels": kernels.identity()}


def _hardware(place: torch.device) -> Hardware:
    capabilities = torch.cpu.get_capabilities()
    isa = [torch.backends.cpu.get_cpu_capability(), *(name for name in _DECIDING_ISA if capabilities.get(name))]
    return Hardware(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        isa=" ".join(isa),
        gpu=torch.cuda.get_device_name(place) if place.type == "cuda" else None,
    )


def _cpu() -> str:
    """The processor's own name; Linux on ARM gives none, and then its architecture."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
