"""A function that rank 0 calls when it sees fit, and that all ranks must compute together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from luthier.trainer.ranks.rank_group import RankGroup

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class JointCall(Generic[_Result]):
    """`function`, which rank 0 calls through this object while the others are in `serve`. One rank just calls it."""

    function: Callable[[], _Result]
    ranks: RankGroup

    def __call__(self) -> _Result:
        """Rank 0's call: the others compute it too, and drop what they get."""
        self.ranks.told(True)
        return self.function()

    def serve(self) -> None:
        """All ranks call it where rank 0 has done what may call the function: others compute as often as it did."""
        while self.ranks.told(False):
            self.function()
