"""`python -m bench.trl_run JOB NAME RESULT`: the job's steps by TRL's SFTTrainer, timed step by step.

Everything is TRL's own except what makes the comparison fair: rows in the job's order, the job's first adapter and its
learning rate. AdamW, its betas, the clipping at norm 1 and no weight decay are TRL's defaults and Luthier's alike.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
import trl
from datasets import Dataset

from bench import flops, schedule
from bench import job as jobs
from bench.job import Job
from bench.trl_options import OPTIONS, TrlOptions
from luthier.run_directory.train_spec import LoraRecipe

DEFAULT_MAX_LENGTH = 1024


class Clock(transformers.TrainerCallback):
    """Notes when steps end, and their losses."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.time())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.time())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


class Trainer(trl.SFTTrainer):
    """SFTTrainer under the job's learning rate."""

    job: Job

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        job = self.job
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda done: schedule.factor(done + 1, job.n_steps)
        )
        return self.lr_scheduler


def main(arguments: list[str]) -> None:
    job = jobs.load(Path(arguments[0]))
    options = OPTIONS[arguments[1]]
    transformers.utils.logging.set_verbosity_error()
    clock = Clock()
    trainer = make(job, options, clock)
    per_step = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    rows = list(trainer.train_dataset)
    trainer.train()
    if not options.packed and len(clock.losses) != job.steps:
        raise SystemExit(f"TRL ran {len(clock.losses)} steps instead of {job.steps}")
    steps = [rows[start : start + per_step] for start in range(0, len(rows), per_step)]
    result = {
        "seconds": [end - start for start, end in zip(clock.times, clock.times[1:], strict=False)],
        "losses": clock.losses,
        "tokens": [sum(len(row["input_ids"]) for row in step) for step in steps],
        "loss_tokens": [sum(label != -100 for row in step for label in row["labels"][1:]) for step in steps],
    }
    Path(arguments[2]).write_text(json.dumps(result))
    if len(arguments) > 3:
        trainer.model.save_pretrained(arguments[3])


def make(job: Job, options: TrlOptions, clock: Clock) -> Trainer:
    """The trainer with the job's rows and adapter in place."""
    rows = jobs.read_taken(job)
    columns = ("messages",) if options.rows == "messages" else ("input_ids", "labels")
    recipe = LoraRecipe.model_validate(job.lora)
    trainer = Trainer(
        model=str(job.base_folder / "hf"),
        args=_config(job, options),
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
        peft_config=peft.LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer.job = job
    tensors = safetensors.torch.load_file(job.adapter / "adapter_model.safetensors")
    peft.set_peft_model_state_dict(trainer.model, tensors)
    return trainer


def _config(job: Job, options: TrlOptions) -> trl.SFTConfig:
    facts = flops.load(job.facts)
    together = 1 if options.packed else options.together or job.batch_size
    values: dict[str, Any] = {
        # Without it TRL stops on a machine without a GPU: its default is bf16.
        "use_cpu": True,
        "output_dir": str(job.folder / "trl"),
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": 1 if options.packed else job.batch_size // together,
        "learning_rate": job.learning_rate,
        "num_train_epochs": 1,
        "seed": job.seed,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if options.packed:
        # A pack holds about what a step of the others does.
        packs = max(facts.longest, max(facts.tokens))
        values |= {"packing": True, "packing_strategy": "bfd", "max_length": packs}
    elif facts.longest >= DEFAULT_MAX_LENGTH:
        # At its default TRL would cut the rows and do less work than the others.
        values["max_length"] = None
    init = {"dtype": options.dtype, "attn_implementation": options.attention}
    values["model_init_kwargs"] = {name: value for name, value in init.items() if value is not None}
    return trl.SFTConfig(**values | options.config)


if __name__ == "__main__":
    main(sys.argv[1:])
