"""`python -m bench.prepare JOB`: renders the rows of the steps, writes the first adapter, counts what there is to do.

A process of its own, so that the one that measures never holds torch: a child's peak memory begins with its parent's.
"""

import json
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers

import parsed_rows
from bench import job as jobs
from bench.flops import Facts, Shape
from bench.job import Job
from luthier.data.rendering.renderer import Rendered, Renderer
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.tokenizer import FolderTokenizer

UP_SPREAD = 0.01
"""The adapter's B matrices are drawn, not zero: from zero the first step would not show if A's gradient is right."""


def main(arguments: list[str]) -> None:
    job = jobs.load(Path(arguments[0]))
    rendered = _render(job)
    order = packing.epoch_batches(len(rendered), job.batch_size, job.seed, 0)[: job.steps]
    lines = job.rows.read_text().splitlines()
    with job.taken.open("w") as stream:
        for index in (index for batch in order for index in batch):
            stream.write(
                json.dumps({"messages": json.loads(lines[index])["messages"]} | _tokens(rendered[index])) + "\n"
            )
    steps = [[rendered[index] for index in batch] for batch in order]
    _write_adapter(job)
    Facts(
        tokens=[sum(len(row.token_ids) for row in step) for step in steps],
        learned_tokens=[packing.supervised_tokens(step) for step in steps],
        squares=[sum(len(row.token_ids) ** 2 for row in step) for step in steps],
        longest=max(len(row.token_ids) for step in steps for row in step),
        shape=_shape(job),
    ).save(job.facts)


def _render(job: Job) -> list[Rendered]:
    renderer = Renderer(FolderTokenizer(job.base_folder / "hf"), job.context_tokens)
    rendered = []
    for line, example in parsed_rows.read_examples(job.rows.read_bytes()):
        sequences = renderer.render(example)
        if len(sequences) > 1:
            raise SystemExit(f"{job.rows}: line {line} becomes {len(sequences)} sequences; TRL knows one a row.")
        rendered.append(sequences[0])
    return rendered


def _tokens(row: Rendered) -> dict[str, list[int]]:
    labels = [id if weight else -100 for id, weight in zip(row.token_ids, row.loss_weights, strict=True)]
    return {"input_ids": list(row.token_ids), "labels": labels}


def _write_adapter(job: Job) -> None:
    recipe = LoraRecipe.model_validate(job.lora)
    torch.manual_seed(job.seed)
    config = peft.LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), task_type="CAUSAL_LM"
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(job.base_folder / "hf", dtype=torch.float32)
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=UP_SPREAD)
    adapted.save_pretrained(job.adapter)


def _shape(job: Job) -> Shape:
    config = transformers.AutoConfig.from_pretrained(job.base_folder / "hf")
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        vocabulary=config.vocab_size,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
