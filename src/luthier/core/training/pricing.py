"""What an operator charges for training: shown before and after a run; nothing is billed here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a million trained tokens; `currency` is a code of three letters, such as USD."""

    per_million_tokens: float
    currency: str

    def cost(self, trained_tokens: int) -> float:
        """What so many trained tokens cost, to six digits behind the point."""
        return round(trained_tokens * self.per_million_tokens / 1e6, 6)
