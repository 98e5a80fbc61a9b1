"""What a card leaves to a training step: from what it is sold with to what a plan may take."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.cards import CONTEXT_GB, LIBRARIES_GB, Card
from pebble.formatting import gigabytes, table

MARGIN = 0.02
"""Of the budget: what a recipe leaves free."""
_WHY = (
    f"The margin of {MARGIN:.0%} is for what no table here counts: temporaries of cuDNN and of "
    "quantised kernels, other processes, and an order of allocations that differs from the "
    "simulated one."
)


@dataclass(frozen=True)
class CardRoom:
    """The terms between a card's memory and what its recipes are planned for.

    Attributes
    ----------
    card : Card
    budget_bytes : int
        What was asked for.
    is_limit : bool
        Whether the card's room limits the budget; not where no card is as large as the budget.
    """

    card: Card
    budget_bytes: int
    is_limit: bool = True

    @classmethod
    def of(cls, card: Card, budget_bytes: int, *, asked_for: bool) -> CardRoom:
        """The room on a card that was asked for, or on the smallest that has the budget."""
        return cls(card, budget_bytes, asked_for or budget_bytes <= card.memory_gb * 1e9)

    @property
    def allowed_bytes(self) -> int:
        """What torch's allocator may reserve: the budget, at most what the card has for it."""
        return (
            min(self.budget_bytes, self.card.usable_bytes) if self.is_limit else self.budget_bytes
        )

    @property
    def margin_bytes(self) -> int:
        """What stays free."""
        return int(MARGIN * self.allowed_bytes)

    @property
    def planned_bytes(self) -> int:
        """The budget of the plans."""
        return self.allowed_bytes - self.margin_bytes

    def rows(self) -> list[tuple[str, int]]:
        """The terms in bytes, those that are taken away negative."""
        return [
            ("offered to torch", round(self.card.offered_gb * 1e9)),
            ("CUDA context and driver, assumed", -round(CONTEXT_GB * 1e9)),
            ("code of the libraries, assumed", -round(LIBRARIES_GB * 1e9)),
            ("for torch's allocator", self.card.usable_bytes),
            ("budget", self.budget_bytes),
            ("margin", -self.margin_bytes),
            ("planned for", self.planned_bytes),
        ]

    def __str__(self) -> str:
        rows = [[name, f"{'-' * (size < 0)}{gigabytes(abs(size))}"] for name, size in self.rows()]
        sold = f"{self.card.title}, sold with {self.card.memory_gb:g} GB"
        text = table([sold, "memory"], rows)
        if self.allowed_bytes < self.budget_bytes:
            text += (
                f"\n\nThe budget is more than a {self.card.title} has; what it has is planned for."
            )
        return f"{text}\n\n{_WHY}"
