"""example_losses.csv: a row per example with its loss in the first and in the last epoch, from the steps themselves.

A loss is the mean over the example's learned tokens at the step that learned from it, so one row may be measured
earlier in its epoch than another. Rows that stay high are those that the model could not learn.
"""

from collections.abc import Sequence
from itertools import chain

from luthier.durable import write_durably
from luthier.run_directory import Metrics, RunDirectory
from luthier.trainer import batches
from luthier.trainer.dataset import Dataset, Source

COLUMNS = ("line", "tokens", "supervised_tokens", "first_epoch_loss", "last_epoch_loss")


def write(
    run: RunDirectory, source: Source, examples: Dataset, order: Sequence[list[list[int]]], told: Sequence[Metrics]
) -> None:
    """Writes the file whole, from what the steps told: a resumed run writes the same bytes. Nothing where none told."""
    if any(step.example_losses is None for step in told):
        return
    per_epoch = len(order[0])
    first, last = (_of_epoch(order[epoch], told[epoch * per_epoch :]) for epoch in (0, len(told) // per_epoch - 1))
    lines = [",".join(COLUMNS)]
    for index, ((line, _), sequences) in enumerate(zip(source.rows(), examples.sequences, strict=True)):
        tokens = sum(len(sequence.token_ids) for sequence in sequences)
        learned = batches.supervised_tokens(sequences)
        lines.append(f"{line},{tokens},{learned},{first[index]!r},{last[index]!r}")
    write_durably(run.example_losses, ("\n".join(lines) + "\n").encode())


def _of_epoch(order: Sequence[list[int]], told: Sequence[Metrics]) -> dict[int, float]:
    """The loss of each example, by its index, in the epoch that `told` begins with."""
    losses = chain.from_iterable(step.example_losses or () for step in told[: len(order)])
    return dict(zip(chain.from_iterable(order), losses, strict=True))
