"""The reference model's log-probabilities in DPO, computed once per pair and cached in the run directory.

The reference is the model before the first step of the run: the base if the adapter is new (its product is zero then),
the parent if the run continues from one. So no second model is kept in memory, only log-probabilities.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from luthier.atomic_io import write_durably
from luthier.trainer.dataset import packing
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import dpo, passes
from luthier.trainer.objectives.dpo import Pair
from luthier.trainer.ranks.rank_group import ALONE, RankGroup
from luthier.trainer.run.provenance import Origin

SAVE_INTERVAL_S = 60.0


def key(origin: Origin, name: str) -> str:
    """A hash of everything that the log-probabilities of a data file depend on; `name` is its name in the manifest.

    The cache is used only under the same key.
    """
    parts = [origin.tokens_key(origin.inputs[name]), origin.inputs["base_weights"], origin.parent_adapter or "new"]
    return hashlib.sha256("\n".join([*parts, origin.spec.model_dump_json(include={"lora"})]).encode()).hexdigest()


@torch.no_grad()
def compute(
    tuned: TunedModel,
    pairs: Sequence[Pair],
    path: Path,
    key: str,
    stop: Callable[[], bool],
    ranks: RankGroup = ALONE,
) -> Tensor | None:
    """Log-probabilities of both outputs of each pair, [P, 2] in float64, under the model as it is; chosen first.

    None if `stop` asked a rank to leave. Ranks take turns with the groups; rank 0 reads and writes the file `path`.
    What is in it is not computed again; it is saved about once a minute and at the end. Groups are those of the whole
    data file however often it was interrupted, and however many ranks there are: no bit depends on that.
    """
    found_P2, done = _load(path, key, len(pairs))
    done = ranks.most(done if ranks.leads else 0)
    ranks.copy_from_rank_0([found_P2])
    groups = list(packing.micro_batches([pair.sequences for pair in pairs], packing.EVALUATION_BUDGET))
    was_training = tuned.causal.training
    tuned.causal.eval()
    saved_at = time.monotonic()
    while done < len(groups):
        turn = groups[done : done + ranks.size]
        for group in passes.in_step(tuned, ranks, turn[ranks.rank : ranks.rank + 1]):
            row = dpo.pack_pairs([pairs[index] for index in group], tuned.device)
            nats_N, _ = dpo.output_nats(tuned, row)
            found_P2[group] = row.log_probabilities(nats_N).cpu()
        _share_turn(found_P2, turn, ranks)
        done += len(turn)
        leaving = ranks.any_of(stop()) and done < len(groups)
        due = done == len(groups) or leaving or time.monotonic() - saved_at > SAVE_INTERVAL_S
        if due and ranks.leads:
            _save(path, key, found_P2, done)
            saved_at = time.monotonic()
        if leaving:
            return None
    tuned.causal.train(was_training)
    return found_P2


def _share_turn(found_P2: Tensor, turn: Sequence[list[int]], ranks: RankGroup) -> None:
    """Gives all ranks the log-probabilities of the groups of a turn, the first of which is rank 0's, and so on."""
    if ranks.size == 1:
        return
    rows = [index for group in turn for index in group]
    own = set(turn[ranks.rank]) if ranks.rank < len(turn) else set()
    shared_R2 = torch.stack([found_P2[index] if index in own else torch.zeros(2).double() for index in rows])
    ranks.sum_in_rank_order([shared_R2])
    found_P2[rows] = shared_R2


def _save(path: Path, key: str, found_P2: Tensor, done: int) -> None:
    """Replaces the cache file by the log-probabilities so far; the first `done` groups are computed, the rest zeros."""
    path.parent.mkdir(exist_ok=True)
    tensors = {"log_probabilities": found_P2, "groups": torch.tensor(done)}
    write_durably(path, safetensors.torch.save(tensors, {"key": key}))


def _load(path: Path, key: str, n_pairs: int) -> tuple[Tensor, int]:
    """What was saved under this key, and how many groups of it are done; zeros and 0 if there is no such file."""
    nothing = torch.zeros(n_pairs, 2, dtype=torch.float64), 0
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            if (stream.metadata() or {}).get("key") != key:
                return nothing
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError):
        return nothing
    return tensors["log_probabilities"], int(tensors["groups"])
