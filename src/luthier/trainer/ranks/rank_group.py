"""What the ranks of a run do together: sums in rank order, agreement, comparison. One rank alone does nothing of it.

A collective of a library adds in an order of its own (gloo's all_reduce differs from rank order in a fifth of all
elements of three ranks), so all ranks gather and then add in the order of ranks: the same bits in each, in every run.
"""

import hashlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from luthier.core.errors import Unavailable
from luthier.trainer.ranks.rank_processes import LOOPBACK, Place, RankLost
from luthier.trainer.ranks.rank_watch import RankWatch

START_TIMEOUT_S = 300.0
"""How long ranks wait for one another at the start: all that differs is how long loading libraries takes."""

_COLLECTIVE_TIMEOUT = timedelta(days=2)
"""A rank may wait long for rank 0, which writes checkpoints; that one is gone is seen by RankWatch."""

_BUCKET = 1 << 24
"""Elements that are gathered at once: 64 MiB of each rank, however many parameters are trained."""


@dataclass(frozen=True, slots=True)
class RankGroup:
    """This process's rank among the `size` of the run. Methods that communicate must be called by all ranks alike.

    They raise RankLost if another rank is gone. `local_size` ranks share this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    watch: RankWatch | None = None

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes the run directory."""
        return self.rank == 0

    def sum_in_rank_order(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor, in place, by its sum over the ranks, added in their order: equal bits in all ranks.

        The tensors must have one dtype, be contiguous, and be on one device.
        """
        if self.size == 1:
            return
        for pieces in _buckets([tensor.view(-1) for tensor in tensors]):
            total = self._gathered(torch.cat(pieces))
            sum_ = total[0]
            for part in total[1:]:
                sum_ += part
            for piece, summed in zip(pieces, sum_.split([len(piece) for piece in pieces]), strict=True):
                piece.copy_(summed)

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums over the ranks of each number, in float64 and in rank order."""
        if self.size == 1:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64)
        self.sum_in_rank_order([own])
        return own.tolist()

    def any_of(self, flag: bool) -> bool:
        """Whether any rank gave True. Returns once all have called it."""
        return self.most(int(flag)) > 0

    def told(self, flag: bool) -> bool:
        """What rank 0 gave; the others' values are ignored. Returns once all have called it."""
        return self.any_of(flag and self.leads)

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return number if self.size == 1 else int(self._gathered(torch.tensor([number])).max())

    @contextmanager
    def rank_0_first(self) -> Iterator[None]:
        """Other ranks enter the block once rank 0 has left it."""
        if not self.leads:
            self.any_of(False)
        yield
        if self.leads:
            self.any_of(False)

    def copy_from_rank_0(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites each tensor, in place, by that of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                with _losses():
                    dist.broadcast(tensor, 0)

    def part(self) -> None:
        """All ranks call it at their end: from then on each may leave before the others do."""
        if self.watch is not None:
            self.watch.stop()
            self.any_of(False)

    def require_equal(self, content: bytes, what: str) -> None:
        """Raises Unavailable (ranks_differ), for the operator, in all ranks, unless all gave the same bytes.

        `what` says of them, in the plural, what they are.
        """
        if self.size == 1:
            return
        digest = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
        digests = self._gathered(digest)
        if other := [rank for rank in range(self.size) if not torch.equal(digests[rank], digests[0])]:
            raise Unavailable(
                "ranks_differ",
                f"{what} of rank {other[0]} are not those of rank 0. All machines of a run need the same files, the "
                "same versions and the same kind of processor; if they have them, check their memory.",
            )

    def _gathered(self, own: Tensor) -> Tensor:
        """The tensors [n] of all ranks, [size, n], in their order."""
        gathered = own.new_empty((self.size, len(own)))
        with _losses():
            dist.all_gather_single(gathered.view(-1), own)
        return gathered


ALONE = RankGroup()


def join(place: Place, listener: socket.socket | None) -> RankGroup:
    """Meets the other ranks, and watches from then on that they live. `listener` is rank 0's, if it started the others.

    Once a process. GPUs talk by NCCL, CPUs by gloo. Raises RankLost if they do not all come.
    """
    if place.size == 1:
        return ALONE
    timeout = timedelta(seconds=START_TIMEOUT_S)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _losses():
        if listener is None:
            store: Store
            store, _, _ = next(iter(rendezvous("env://", place.rank, place.size, timeout=timeout)))
        else:
            port = listener.getsockname()[1]
            store = TCPStore(
                LOOPBACK,
                port,
                place.size,
                True,
                timeout,
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )
        dist.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.size, timeout=_COLLECTIVE_TIMEOUT
        )
    watch = RankWatch(store, place.rank, place.size)
    watch.start()
    return RankGroup(place.rank, place.size, place.local_size, watch)


def is_loss(error: BaseException) -> bool:
    """Whether an error means that another rank is gone: also of a collective that the library starts by itself."""
    words = str(error)
    return isinstance(error, RankLost | dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in words or "NCCL" in words)
    )


@contextmanager
def _losses() -> Iterator[None]:
    """Turns the errors of torch.distributed into RankLost, without their words, which may name addresses."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost("another rank of this run is gone or does not answer") from error


def _buckets(flat: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors, each [n], cut into pieces, and these in groups of at most _BUCKET elements; all are views."""
    pieces: list[Tensor] = []
    room = _BUCKET
    for tensor in flat:
        for piece in tensor.split(_BUCKET):
            if pieces and len(piece) > room:
                yield pieces
                pieces, room = [], _BUCKET
            pieces.append(piece)
            room -= len(piece)
    if pieces:
        yield pieces
