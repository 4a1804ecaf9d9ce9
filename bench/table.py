"""From what the trainers wrote to the figures that are told: rates, ratios, shares of the machine's peak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import flops
from bench.flops import Facts

COLUMNS = (
    "trainer",
    "tokens/s",
    "after step 1",
    "learned/s",
    "peak GB",
    "x TRL",
    "x TRL best",
    "loss off by",
    "% of peak",
    "with attention",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One trainer once through the steps of a set. `loss_tokens` are those that it computed a loss at."""

    seconds: Sequence[float]
    losses: Sequence[float]
    tokens: Sequence[int]
    loss_tokens: Sequence[int]
    peak_bytes: int

    @property
    def rate(self) -> float:
        return sum(self.tokens) / sum(self.seconds)

    @property
    def later_rate(self) -> float:
        """Without the first step, which warms up caches and, in some trainers, compiles."""
        return sum(self.tokens[1:]) / sum(self.seconds[1:]) if len(self.seconds) > 1 else self.rate

    def share(self, facts: Facts, rank: int, peak: float, attention: bool) -> float:
        """Operations that the steps ask for, over what the machine could have done meanwhile."""
        work = flops.matmul(facts.shape, rank, sum(self.tokens), sum(self.loss_tokens))
        if attention:
            work += flops.attention(facts.shape, sum(facts.squares))
        return work / sum(self.seconds) / peak


def loss_difference(run: Run, reference: Run) -> float:
    """The largest relative difference of a step's loss."""
    pairs = zip(run.losses, reference.losses, strict=True)
    return max(abs(loss - other) / abs(other) for loss, other in pairs)


def lines(
    runs: Mapping[str, Sequence[Run]],
    facts: Facts,
    rank: int,
    peak: float,
    base: str,
    best: str,
    uncomparable: set[str],
) -> list[str]:
    """A Markdown table: a line for each trainer, medians where it ran several times.

    `base` and `best` are what the ratios stand against; losses of the `uncomparable` are of another kind.
    """
    written = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, tries in runs.items():
        rate = median(run.rate for run in tries)
        cells = [
            name,
            f"{rate:.0f}",
            f"{median(run.later_rate for run in tries):.0f}",
            f"{median(sum(facts.learned_tokens) / sum(run.seconds) for run in tries):.0f}",
            f"{median(run.peak_bytes for run in tries) / 1e9:.2f}",
            _ratio(rate, runs.get(base)),
            _ratio(rate, runs.get(best)),
            f"{loss_difference(tries[0], runs[best][0]):.2%}" if best in runs and name not in uncomparable else "",
            f"{median(run.share(facts, rank, peak, False) for run in tries):.0%}",
            f"{median(run.share(facts, rank, peak, True) for run in tries):.0%}",
        ]
        written.append(f"| {' | '.join(cells)} |")
    return written


def _ratio(rate: float, others: Sequence[Run] | None) -> str:
    return f"{rate / median(run.rate for run in others):.2f}" if others else ""
