"""From what the trainers wrote to the figures that are told: rates, ratios, shares of the machine's peak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import flops
from bench.flops import Facts

COLUMNS = (
    "trainer",
    "tokens/s",
    "median step",
    "learned/s",
    "peak GB",
    "x TRL",
    "x TRL best",
    "loss off by",
    "% of peak",
    "with attention",
    "% of peak in own shapes",
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
        """Tokens a second over all steps, the first included."""
        return sum(self.tokens) / sum(self.seconds)

    @property
    def step_rates(self) -> list[float]:
        """Tokens a second of each step but the first, which warms up caches and, in some trainers, compiles."""
        rates = [count / seconds for count, seconds in zip(self.tokens, self.seconds, strict=True)]
        return rates[1:] or rates

    def work(self, facts: Facts, rank: int, attention: bool) -> float:
        """Operations for each token that the steps ask for."""
        done = flops.matmul(facts.shape, rank, sum(self.tokens), sum(self.loss_tokens))
        if attention:
            done += flops.attention(facts.shape, sum(facts.squares))
        return done / sum(self.tokens)


def loss_difference(run: Run, reference: Run) -> float:
    """The largest relative difference of a step's loss."""
    pairs = zip(run.losses, reference.losses, strict=True)
    return max(abs(loss - other) / abs(other) for loss, other in pairs)


def step_rate(tries: Sequence[Run]) -> float:
    """The median step of all runs: a machine that stands still for a minute in one step moves it little."""
    return median(rate for run in tries for rate in run.step_rates)


def lines(
    runs: Mapping[str, Sequence[Run]],
    facts: Facts,
    rank: int,
    speeds: Mapping[str, float],
    base: str,
    best: str,
    uncomparable: set[str],
) -> list[str]:
    """A Markdown table: a line for each trainer. Ratios and shares of the peak are those of the median step.

    `speeds` are those of `bench.peak`; `base` and `best` are what the ratios stand against; losses of the
    `uncomparable` are of another kind.
    """
    written = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    learned_share = sum(facts.learned_tokens) / sum(facts.tokens)
    for name, tries in runs.items():
        rate = step_rate(tries)
        cells = [
            name,
            f"{median(run.rate for run in tries):.0f}",
            f"{rate:.0f}",
            f"{rate * learned_share:.0f}",
            f"{median(run.peak_bytes for run in tries) / 1e9:.2f}",
            f"{rate / step_rate(runs[base]):.2f}" if base in runs else "",
            f"{rate / step_rate(runs[best]):.2f}" if best in runs else "",
            f"{loss_difference(tries[0], runs[best][0]):.2%}" if best in runs and name not in uncomparable else "",
            f"{rate * tries[0].work(facts, rank, False) / speeds['bf16']:.0%}",
            f"{rate * tries[0].work(facts, rank, True) / speeds['bf16']:.0%}",
            f"{rate * tries[0].work(facts, rank, False) / speeds['own_bf16']:.0%}",
        ]
        written.append(f"| {' | '.join(cells)} |")
    return written
