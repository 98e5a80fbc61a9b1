"""Calls of a model's blocks: what a module-level plan decides about. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, order=True)
class BlockCall:
    """One call of a block in a step.

    Attributes
    ----------
    block : str
        Name of the submodule.
    call : int
        Which of its calls in the step, from 0 on.
    layer : int
        Of a recurrent network that runs layer by layer, the layer; else 0.
    """

    block: str
    call: int = 0
    layer: int = 0


@dataclass(frozen=True)
class CallWeight:
    """What one call weighs.

    Attributes
    ----------
    at : BlockCall
    saved_bytes : int
        Bytes that are not held until the backward if only its inputs are kept.
    cost : int
        Nanoseconds to run it again.
    """

    at: BlockCall
    saved_bytes: int
    cost: int


def told_calls(chosen: Iterable[BlockCall], every: Sequence[BlockCall]) -> str:
    """Calls in words, by block.

    Examples
    --------
    >>> calls = [BlockCall("cell", 0), BlockCall("cell", 1), BlockCall("head")]
    >>> told_calls(calls[1:], calls)
    'cell (1 of 2 calls), head'
    """
    by_block = groupby(sorted(chosen), key=lambda at: at.block)
    told = []
    for block, group in by_block:
        mine, all_of_it = len(list(group)), sum(at.block == block for at in every)
        told.append(block if mine == all_of_it else f"{block} ({mine} of {all_of_it} calls)")
    return ", ".join(told)
