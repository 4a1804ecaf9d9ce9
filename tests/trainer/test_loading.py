"""Adapters of every family as other people load them: plain peft on plain transformers gives what was trained."""

from pathlib import Path

import huggingface_hub
import peft
import pytest
import torch
import transformers
import yaml

from families import FAMILIES, make_source
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.run.event_log import EventLog
from proofs import prove
from repository import CLIPPY
from runs import MakeRun


# PEFT still asks the model by a name that transformers is retiring.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_adapter_loads_with_plain_peft_and_says_what_the_trainer_saw(
    name: str, make_run: MakeRun, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "base", name)
    lora = LoraRecipe(rank=4, alpha=8, targets=FAMILIES[name].targets)
    run = make_run(base_folder=source.parent, lora=lora, n_epochs=1, context_tokens=1024)
    assert loop.train(run, run.read_spec(), EventLog(run), lambda: False) is not None
    folder = run.checkpoints / "step-000004"
    causal = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    prove(peft.PeftModel.from_pretrained(causal, folder).eval(), folder)


@pytest.mark.parametrize("lora", [LoraRecipe(rank=4, alpha=8, targets=("q_proj",)), None], ids=["adapter", "all"])
def test_card_is_complete_by_the_hubs_own_rules_without_asking_it(make_run: MakeRun, lora: LoraRecipe | None) -> None:
    """What the hub looks at when it takes a card: its front matter, the closed lists, the shape of the results."""
    valid = b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:4])
    run = make_run(valid=valid, n_epochs=1, lora=lora, learning_rate=1e-3, base_licence="MIT")
    assert loop.train(run, run.read_spec(), EventLog(run), lambda: False) is not None
    path = run.checkpoints / "step-000004" / "README.md"
    metadata = huggingface_hub.metadata_load(path)
    assert metadata is not None
    data = huggingface_hub.ModelCard.load(path, ignore_metadata_errors=False).data
    assert yaml.safe_load(data.to_yaml()) == metadata
    results = huggingface_hub.repocard_data.model_index_to_eval_results(metadata["model-index"])[1]
    assert {result.metric_type for result in results} == {"loss", "accuracy"}
    assert metadata["library_name"] == ("peft" if lora else "transformers")
    assert metadata["pipeline_tag"] == "text-generation"
    assert metadata["license"] == "mit"
