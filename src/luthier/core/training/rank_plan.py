"""Over how many processes the runs of an installation are spread: the operator's choice, part of each run's spec."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankPlan:
    """`ranks` processes train together, each on its share of every batch, so never more than a batch has examples.

    With `shard_base` each holds a share of a frozen base that is not quantized (FSDP2), for one that fits no device.
    """

    ranks: int = 1
    shard_base: bool = False


ONE_RANK = RankPlan()
