"""example_losses.csv: a row per example with its loss in the first and in the last epoch, from the steps themselves.

A loss is the mean over the example's supervised tokens at the step that trained on it, so examples of one epoch are
measured by different weights. Examples whose loss stays high are those that the model could not learn.
"""

from collections.abc import Sequence
from itertools import chain

from luthier.atomic_io import write_durably
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.token_cache import TokenizedFile

COLUMNS = ("line", "tokens", "supervised_tokens", "first_epoch_loss", "last_epoch_loss")


def write(
    run: RunDirectory, tokenized: TokenizedFile, batches: Sequence[list[list[int]]], steps: Sequence[Metrics]
) -> None:
    """Replaces example_losses.csv by the losses of all examples, from the metrics of all steps of the run.

    So a resumed run writes the same bytes. `batches` are those of each epoch, as indexes of examples. Nothing is
    written for a method without example losses.
    """
    if any(step.example_losses is None for step in steps):
        return
    per_epoch = len(batches[0])
    first, last = (_of_epoch(batches[epoch], steps[epoch * per_epoch :]) for epoch in (0, len(steps) // per_epoch - 1))
    csv_lines = [",".join(COLUMNS)]
    for index, (line_number, sequences) in enumerate(zip(tokenized.line_numbers, tokenized.examples, strict=True)):
        tokens = sum(len(sequence.token_ids) for sequence in sequences)
        supervised_tokens = packing.supervised_tokens(sequences)
        csv_lines.append(f"{line_number},{tokens},{supervised_tokens},{first[index]!r},{last[index]!r}")
    write_durably(run.example_losses, ("\n".join(csv_lines) + "\n").encode())


def _of_epoch(batches: Sequence[list[int]], steps: Sequence[Metrics]) -> dict[int, float]:
    """The loss of each example, by its index, in the epoch that `steps` begin with; `batches` are that epoch's."""
    losses = chain.from_iterable(step.example_losses or () for step in steps[: len(batches)])
    return dict(zip(chain.from_iterable(batches), losses, strict=True))
