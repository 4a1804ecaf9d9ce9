"""Passes through the model: ranks that share the base's weights all make as many, for each gathers from all."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.ranks.rank_group import RankGroup

_Group = TypeVar("_Group")


def in_step(tuned: TunedModel, ranks: RankGroup, groups: Iterable[_Group]) -> Iterator[_Group]:
    """Yields the groups that go through the model one by one; if the base is sharded, this rank then makes passes
    without effect until every rank has made as many as the one with most.
    """
    if not tuned.sharded:
        yield from groups
        return
    own = list(groups)
    most = ranks.most(len(own))
    yield from own
    for _ in range(most - len(own)):
        tuned.pass_without_effect()
