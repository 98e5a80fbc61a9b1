"""Graphics cards that people fine-tune on: their memory, and which roofline they follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pebble.arguments import one_of
from pebble.errors import CardWarning
from pebble.formatting import gigabytes
from pebble.notices import warn

CONTEXT_GB, LIBRARIES_GB = 0.25, 0.35
"""GB of a card that torch's allocator never sees: the CUDA context with the driver's own, and the
code of torch, cuBLAS and cuDNN, which is loaded as it is used. Assumptions: together 0.13 GB (the
message of the T4 below, code loaded lazily) to 0.76 GB (discuss.pytorch.org/t/73021)
have been told; on a card at hand, `pebble.estimate` measures them."""


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
    capability : (int, int)
        Compute capability, from the maker's list of them: it decides which kernels torch takes.
    seen_gb : float, optional
        What torch is told that it has, where that is less: checked memory (ECC) keeps its sums
        there. From out-of-memory messages: 14.56 GiB of a T4 with ECC (Zheng-Chong/CatVTON#133;
        14.74 without), 22.03 GiB of an L4 (ArcInstitute/evo2#190); an A10 is taken to be the same.
    """

    title: str
    memory_gb: float
    device: str
    capability: tuple[int, int]
    seen_gb: float | None = None

    @property
    def offered_gb(self) -> float:
        """What torch is told that the card has, or less."""
        return self.memory_gb if self.seen_gb is None else self.seen_gb

    @property
    def usable_bytes(self) -> int:
        """What a budget on this card may be."""
        return round((self.offered_gb - CONTEXT_GB - LIBRARIES_GB) * 1e9)

    @property
    def sm(self) -> int:
        """Compute capability as one number, such as 75."""
        return 10 * self.capability[0] + self.capability[1]

    @property
    def has_bf16(self) -> bool:
        """Whether kernels of torch take bf16 there: from compute capability 8.0 on."""
        return self.sm >= 80


CARDS: Mapping[str, Card] = {
    "t4": Card("T4", 16, "t4", (7, 5), 15.63),
    "rtx3090": Card("RTX 3090", 24, "rtx3090", (8, 6)),
    "a10": Card("A10", 24, "a10", (8, 6), 23.65),
    "l4": Card("L4", 24, "l4", (8, 9), 23.65),
    "rtx4090": Card("RTX 4090", 24, "rtx4090", (8, 9)),
    "a100-40": Card("A100 40 GB", 40, "a100", (8, 0)),
    "a100": Card("A100 80 GB", 80, "a100", (8, 0)),
    "h100": Card("H100", 80, "h100", (9, 0)),
    "h200": Card("H200", 141, "h200", (9, 0)),
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


def card_name(name: str) -> str:
    """The name of a card as it stands in `CARDS`.

    Raises
    ------
    InvalidArgument
        If there is none of this name; lists the choices.

    Examples
    --------
    >>> card_name("T4")
    't4'
    """
    known: str = one_of("card", str(name).lower(), CARDS)
    return known


LEAST_CARD_BUDGET = 10**9
"""Bytes: a budget below is for no card; there the libraries alone take a good part of it."""
NO_CARD = "cpu"
"""Asks for the kernels of the CPU where a card would be chosen."""


def chosen_card(name: str | None, budget_bytes: int) -> str | None:
    """The card to plan for: the one asked for, else the smallest that has the budget.

    None where `NO_CARD` is asked for, or nothing and the budget is for no card.

    Raises
    ------
    InvalidArgument
        If there is none of this name.

    Examples
    --------
    >>> chosen_card(None, 15 * 10**9), chosen_card("cpu", 15 * 10**9), chosen_card(None, 10**6)
    ('t4', None, None)
    """
    if name is not None:
        return None if name == NO_CARD else card_name(name)
    return name_of(card_for(budget_bytes)) if budget_bytes >= LEAST_CARD_BUDGET else None


def half_precision(name: str | None) -> str:
    """The precision to train in on a card, where nobody says: bf16 where it has units for that.

    Examples
    --------
    >>> half_precision("t4"), half_precision("a100"), half_precision(None)
    ('fp16', 'bf16', 'bf16')
    """
    return "bf16" if name is None or CARDS[name].has_bf16 else "fp16"


def name_of(card: Card) -> str:
    """The name of a card.

    Examples
    --------
    >>> name_of(card_for(15 * 10**9))
    't4'
    """
    return next(name for name, other in CARDS.items() if other is card)


def tell_budget(name: str | None, budget_bytes: int) -> None:
    """Warn where a budget is above what a card leaves for it."""
    card = CARDS.get(name or NO_CARD)
    if card is None or budget_bytes <= card.usable_bytes:
        return
    taken, usable = CONTEXT_GB + LIBRARIES_GB, card.usable_bytes / 1e9
    warn(
        f"{gigabytes(budget_bytes)} is more than a {card.title} has for a step: torch is offered "
        f"{card.offered_gb:.2f} GB there, and context and libraries take about {taken:.2f} GB. "
        f"Pass budget_gb={usable:.2f} or less, or a larger card.",
        CardWarning,
    )
