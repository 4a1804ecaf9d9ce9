"""`python -m bench.dpo_work prepare|trl|evaluate JOB ...`: what of bench.dpo needs torch, each a process of its own."""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch.nn import functional

import parsed_rows
from bench import schedule
from luthier.data.rendering.renderer import Rendered, Renderer
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.tokenizer import FolderTokenizer

Job = dict[str, Any]


def main(arguments: list[str]) -> None:
    what, path, *rest = arguments
    job: Job = json.loads(Path(path).read_text())
    transformers.utils.logging.set_verbosity_error()
    match what:
        case "prepare":
            Path(path).write_text(json.dumps(job | _prepare(job)))
        case "trl":
            _trl(job, Path(rest[0]), Path(rest[1]))
        case "evaluate":
            Path(rest[1]).write_text(json.dumps(_evaluate(job, Path(rest[0]))))


def _prepare(job: Job) -> Job:
    """train.jsonl in the file's order, its tokens in the order of the steps, those of held-out pairs, an adapter."""
    folder, content = Path(job["folder"]), Path(job["rows"]).read_bytes()
    lines = content.splitlines(keepends=True)
    renderer = Renderer(FolderTokenizer(Path(job["base_folder"]) / "hf"), job["context_tokens"])
    kept = []
    for number, pair in parsed_rows.read_pairs(content):
        sides = [renderer.render(example)[0] for example in pair.examples()]
        if max(len(side.token_ids) for side in sides) <= job["max_tokens"]:
            kept.append((lines[number - 1], _tokens(*sides)))
    n_train = int(len(kept) * job["train_share"])
    train, held = kept[:n_train][: job["pairs"]], kept[n_train:][: job["held"]]
    n_train = len(train)
    (folder / "train.jsonl").write_bytes(b"".join(line for line, _ in train))
    order = [
        index
        for epoch in range(job["epochs"])
        for batch in packing.epoch_batches(n_train, job["batch_size"], job["seed"], epoch)
        for index in batch
    ]
    n_steps = -(-n_train // job["batch_size"]) * job["epochs"]
    (folder / "taken.json").write_text(json.dumps([train[index][1] for index in order]))
    (folder / "held.json").write_text(json.dumps([tokens for _, tokens in held]))
    torch.manual_seed(job["seed"])
    _adapted(_base(job, torch.float32), job).save_pretrained(folder / "adapter")
    tokens = sum(len(side) for index in order for side in train[index][1].values())
    return {"n_train": n_train, "n_held": len(held), "n_steps": n_steps, "tokens": tokens}


def _tokens(preferred: Rendered, other: Rendered) -> dict[str, list[int]]:
    prompt = preferred.prompt_tokens
    return {
        "prompt_ids": list(preferred.token_ids[:prompt]),
        "chosen_ids": list(preferred.token_ids[prompt:]),
        "rejected_ids": list(other.token_ids[prompt:]),
    }


def _trl(job: Job, told: Path, saved: Path) -> None:
    """The job's steps by TRL: tokens in the job's order, its adapter, its rate; the rest is the options' or TRL's."""
    import trl
    from datasets import Dataset

    class Trainer(trl.DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            n_steps = job["n_steps"]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer, lambda done: schedule.factor(done + 1, n_steps)
            )
            return self.lr_scheduler

    class Clock(transformers.TrainerCallback):
        times: list[float] = []  # noqa: RUF012
        losses: list[float] = []  # noqa: RUF012

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(time.monotonic())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(time.monotonic())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                self.losses.append(logs["loss"])

    options = json.loads(told.read_text())
    dtype, together = options.pop("dtype", None), options.pop("together", job["batch_size"])
    values = {
        "use_cpu": True,
        "output_dir": str(saved.with_suffix(".out")),
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": job["batch_size"] // together,
        "learning_rate": job["learning_rate"],
        "beta": job["beta"],
        "num_train_epochs": 1,
        "seed": job["seed"],
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
        "model_init_kwargs": {"dtype": dtype} if dtype else {},
    }
    trainer = Trainer(
        model=str(Path(job["base_folder"]) / "hf"),
        args=trl.DPOConfig(**values | options),
        train_dataset=Dataset.from_list(json.loads((Path(job["folder"]) / "taken.json").read_text())),
        peft_config=_lora(job),
        callbacks=[Clock()],
    )
    tensors = peft.load_peft_weights(str(Path(job["folder"]) / "adapter"), device="cpu")
    peft.set_peft_model_state_dict(trainer.model, tensors)
    trainer.train()
    trainer.model.save_pretrained(saved)
    told.write_text(json.dumps({"times": Clock.times, "losses": Clock.losses}))


@torch.inference_mode()
def _evaluate(job: Job, adapter: Path) -> dict[str, float]:
    """Rewards of held-out pairs in float32, one output at a time: nothing of either trainer."""
    model = peft.PeftModel.from_pretrained(_base(job, torch.float32), adapter).eval()
    margins = []
    for pair in json.loads((Path(job["folder"]) / "held.json").read_text()):
        gains = []
        for side in ("chosen_ids", "rejected_ids"):
            with model.disable_adapter():
                before = _log_probability(model, pair["prompt_ids"], pair[side])
            gains.append(_log_probability(model, pair["prompt_ids"], pair[side]) - before)
        margins.append(job["beta"] * (gains[0] - gains[1]))
    margins_P = torch.tensor(margins)
    return {
        "accuracy": float((margins_P > 0).float().mean()),
        "margin": float(margins_P.mean()),
        "loss": float(functional.softplus(-margins_P).mean()),
    }


def _log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    ids_T = torch.tensor(prompt + answer)
    logits_TV = model(input_ids=ids_T[None]).logits[0]
    nats_T = functional.cross_entropy(logits_TV[:-1], ids_T[1:], reduction="none")
    return -float(nats_T[len(prompt) - 1 :].double().sum())


def _base(job: Job, dtype: torch.dtype) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(Path(job["base_folder"]) / "hf", dtype=dtype)


def _adapted(base: Any, job: Job) -> Any:
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(base, _lora(job))


def _lora(job: Job) -> peft.LoraConfig:
    recipe = LoraRecipe.model_validate(job["lora"])
    return peft.LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), task_type="CAUSAL_LM"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
