"""A precision that a card has no units for."""

from __future__ import annotations

import torch

from pebble.cards import CARDS
from pebble.errors import CardWarning
from pebble.notices import warn
from pebble.tracing.captured import Captured
from pebble.tracing.signature import SlotKind


def tell_precision(captured: Captured) -> None:
    """Warn where a step is planned in bf16 for a card that computes it as it can."""
    card = None if captured.card is None else CARDS[captured.card]
    if card is None or card.has_bf16 or not _takes_bf16(captured):
        return
    math = captured.kernels.get("math", 0)
    attention = "" if not math else f", and all {math} attentions hold their scores, in fp32"
    warn(
        f"A {card.title} (compute capability {card.capability[0]}.{card.capability[1]}) has no "
        f"units for bf16: products run at the speed of fp32{attention}. Train in fp16 there, with "
        "loss scaling.",
        CardWarning,
    )


def _takes_bf16(captured: Captured) -> bool:
    weights = (s.node.meta["val"] for s in captured.slots if s.kind is SlotKind.PARAMETER)
    cast = (dtype for kind, on, dtype in captured.state.autocast if kind == "cuda" and on)
    return torch.bfloat16 in {*cast, *(weight.dtype for weight in weights)}
