"""Graphics cards that people fine-tune on: their memory, and which roofline they follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OUTSIDE_GB = 0.6
"""GB of a card that torch's allocator never sees: the CUDA context (0.3 to 1 GB, by driver and
libraries) and what the display takes. An assumption; on a card at hand, `pebble.estimate` measures
it."""


@dataclass(frozen=True)
class Card:
    """A card.

    Attributes
    ----------
    title : str
    memory_gb : float
        As it is sold, 10**9 bytes (the true size is a few per cent larger).
    device : str
        Its name among `pebble.measure.costs.DEVICES`.
    """

    title: str
    memory_gb: float
    device: str

    @property
    def usable_bytes(self) -> int:
        """What a budget on this card may be."""
        return int((self.memory_gb - OUTSIDE_GB) * 1e9)


CARDS: Mapping[str, Card] = {
    "t4": Card("T4", 16, "t4"),
    "rtx3090": Card("RTX 3090", 24, "rtx3090"),
    "a10": Card("A10", 24, "a10"),
    "a100-40": Card("A100 40 GB", 40, "a100"),
    "a100": Card("A100 80 GB", 80, "a100"),
    "h100": Card("H100", 80, "h100"),
    "h200": Card("H200", 141, "h200"),
}


def card_for(budget_bytes: int) -> Card:
    """The smallest card that a budget fits on; beyond all of them the largest.

    Examples
    --------
    >>> card_for(15 * 10**9).title, card_for(70 * 10**9).title
    ('T4', 'A100 80 GB')
    """
    fitting = (card for card in CARDS.values() if budget_bytes <= card.memory_gb * 1e9)
    return next(fitting, CARDS["h200"])
