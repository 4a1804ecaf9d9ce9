"""The model card beside each model: README.md that people and Hugging Face tools read. No text of the user's rows.

`render` is pure: all of it comes from the manifest and the checkpoint's figures.
"""

import json
from collections.abc import Mapping

from huggingface_hub import EvalResult, ModelCardData

from luthier.core.states import Method, Tuning
from luthier.core.training.recipe import Schedule
from luthier.manifest import Manifest

_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "gemma": "gemma",
    "llama 3.1 community": "llama3.1",
    "llama 3.2 community": "llama3.2",
    "llama 3.3 community": "llama3.3",
}
"""Catalog's words to the hub's closed list of licences; every other is "other" there, with its name."""

_FIGURES = {
    "train_loss": "training loss, last step",
    "train_mean_token_accuracy": "training token accuracy, last step",
    "valid_loss": "validation loss, last batch",
    "valid_mean_token_accuracy": "validation token accuracy, last batch",
    "full_valid_loss": "validation loss, whole file",
    "full_valid_mean_token_accuracy": "validation token accuracy, whole file",
    "full_valid_reward_accuracy": "validation reward accuracy, whole file",
    "full_valid_reward_margin": "validation reward margin, whole file",
}


def render(made: Manifest, metrics: Mapping[str, float]) -> bytes:
    """The bytes of a checkpoint's README.md; equal manifests and figures give equal bytes.

    `metrics` are those of Metrics.figures; figures that are not in it are left out of the card.
    """
    text = f"---\n{_front_matter(made, metrics).to_yaml()}\n---\n\n{_body(made, metrics)}"
    return text.encode()


def _front_matter(made: Manifest, metrics: Mapping[str, float]) -> ModelCardData:
    """The YAML header in the hub's vocabulary: base model, licence, library, tags, whole-file validation results."""
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="private",
            dataset_name=f"held-out {_learning(made)[1]} of the fine-tuning job",
            dataset_split="validation",
            metric_type=kind,
            metric_name=_FIGURES[name],
            metric_value=metrics[name],
        )
        for name, kind in (("full_valid_loss", "loss"), ("full_valid_mean_token_accuracy", "accuracy"))
        if name in metrics
    ]
    licence, licence_name = _licence(made.spec.get("base_licence"))
    return ModelCardData(
        base_model=_base(made),
        license=licence,
        license_name=licence_name,
        library_name="peft" if made.tuning is Tuning.LORA else "transformers",
        pipeline_tag="text-generation",
        tags=["lora" if made.tuning is Tuning.LORA else "full-fine-tuning", _learning(made)[0], "luthier"],
        model_name=_name(made),
        eval_results=results or None,
    )


def _body(made: Manifest, metrics: Mapping[str, float]) -> str:
    """The card's Markdown: figures, recipe, software and hashes, how to load the model."""
    spec, files, hardware = made.spec, made.files, made.hardware
    kind = "A LoRA adapter on" if made.tuning is Tuning.LORA else "All weights of"
    figures = "\n".join(f"| {words} | {metrics[name]:.4f} |" for name, words in _FIGURES.items() if name in metrics)
    hashes = "\n".join(f"| {name.replace('_', ' ')} | `{value}` |" for name, value in files if value is not None)
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items() if name != "luthier_code")
    return f"""\
# {_name(made)}

{kind} {_base(made)}, fine-tuned on {_learning(made)[1]} by job `{made.lineage.job_id}` with
Luthier. This is its state after step {made.step}, the end of epoch {made.epoch} of {spec["n_epochs"]}.

## Figures

| | |
|---|---|
{figures}

{_learning(made)[2]}

## How it was trained

{_recipe(made)}
AdamW {_decay(made)}, gradients clipped to norm 1, peak learning rate {spec["learning_rate"]:g} with {_warmup(made)}
warm-up and {_schedule(made)}; {spec["n_epochs"]} epochs, {spec["batch_size"]} examples a step, seed {spec["seed"]}.
{_learning(made)[3]}

Computed on {hardware.gpu or hardware.cpu} with {made.threads} threads by
{versions}.

| file | sha256 |
|---|---|
{hashes}

`manifest.json` holds all of this for programs; `luthier reproduce` trains again from it and compares the bytes.

## How to load it

```python
{_code(made)}
```
{_whose_base(made)}"""


def _recipe(made: Manifest) -> str:
    """The sentence on what was trained: all weights, or an adapter's shape, and what they started from."""
    lora, parent = made.spec["lora"], made.lineage.parent_model
    if made.tuning is Tuning.FULL:
        whose = f"`{parent}`" if parent else "the base model"
        return f"All weights from those of {whose}, summed in float32, stored in bf16."
    origin = f"`{parent}`" if parent else "a new adapter"
    shape = f"rank {lora['rank']}, alpha {lora['alpha']:g}, dropout {lora['dropout']:g}"
    bits = f", the base's weights in {lora['quantization']}" if lora.get("quantization") else ""
    return f"From {origin}; {shape}, on {', '.join(lora['targets'])}{bits}."


def _decay(made: Manifest) -> str:
    """The words on weight decay that follow "AdamW"."""
    decay = made.spec.get("weight_decay")
    return f"with weight decay {decay:g}" if decay else "without weight decay"


def _warmup(made: Manifest) -> str:
    """The words before "warm-up", an article and a length; a spec without `warmup` has the default, a short one."""
    asked = made.spec.get("warmup")
    if asked is None:
        return "a short"
    if not asked:
        return "no"
    return f"a {asked:.0%}" if asked < 1 else f"a {int(asked)}-step"


def _schedule(made: Manifest) -> str:
    """The words on the learning rate after the warm-up; specs name a schedule that is not linear."""
    match Schedule(made.spec.get("schedule", Schedule.LINEAR)):
        case Schedule.LINEAR:
            return "a linear decay"
        case Schedule.COSINE:
            return "a cosine decay"
        case Schedule.CONSTANT:
            return "a constant rate after it"


def _code(made: Manifest) -> str:
    """Python code that loads the model with transformers, and PEFT if it is an adapter."""
    lines = ["import transformers", "", 'folder = "path/to/this/folder"']
    if made.tuning is Tuning.LORA:
        base = json.dumps(made.spec.get("base_repository") or "path/to/the/base/model")
        lines = ["import peft", *lines]
        lines.append(f'base = transformers.AutoModelForCausalLM.from_pretrained({base}, dtype="bfloat16")')
        lines.append("model = peft.PeftModel.from_pretrained(base, folder)")
    else:
        lines.append('model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16")')
    return "\n".join([*lines, "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)"])


def _whose_base(made: Manifest) -> str:
    """A paragraph on which base weights an adapter needs; empty where all weights are in the folder."""
    if made.tuning is Tuning.FULL:
        return ""
    name = made.lineage.base_model
    return (
        f"\nThe base weights must be those whose sha256 stands above: `luthier models pull {name}` leaves them in\n"
        f"the folder `{name}/hf` of the models folder.\n"
    )


def _learning(made: Manifest) -> tuple[str, str, str, str]:
    """Four texts that depend on the method: the hub's tag, the kind of rows, the unit of losses, the loss itself."""
    beta = made.spec.get("beta")
    if Method(made.spec["method"]) is Method.SUPERVISED:
        return (
            "sft",
            "chats",
            "Losses are nats per learned token.",
            "The loss stands on the learned assistant messages.",
        )
    return (
        "dpo",
        "preference pairs",
        "Losses are nats per pair; token accuracies are those of the preferred outputs.",
        f"The loss is DPO's sigmoid loss with beta {beta:g}, against the model as it was before the first step.",
    )


def _name(made: Manifest) -> str:
    return f"{made.lineage.base_model} tuned by {made.lineage.job_id}, step {made.step}"


def _base(made: Manifest) -> str:
    """The hub's name of the base where the weights came from there; otherwise the name that they have here."""
    return str(made.spec.get("base_repository") or made.lineage.base_model)


def _licence(name: str | None) -> tuple[str, str | None]:
    """The hub's id of the base's licence and None; or "other" and the licence's name, for one the hub does not list."""
    known = _LICENCES.get((name or "").lower())
    return (known, None) if known else ("other", (name or "unknown").lower().replace(" ", "-"))
