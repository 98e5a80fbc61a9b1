"""Samples cut into batches: as many in each as the budget holds, as many batches on every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pebble.errors import InvalidArgument

Batches = list[list[int]]
_DRAWS = 8


def cut(
    lengths: Sequence[int],
    most: Callable[[int], int],
    generator: np.random.Generator | None,
    ranks: int,
) -> list[Batches]:
    """Every sample in one batch, and the batches in groups of one for each rank.

    Samples next to one another in length go together, the longest first: little is padded, and
    the ranks of a group have about as much to do. What is left over where the batches do not go
    round is split further, so no sample is dropped or taken twice.

    Parameters
    ----------
    lengths : sequence of int
        Of the samples.
    most : callable
        The largest batch of a length.
    generator : numpy Generator or None
        Draws which samples of about one length meet, and the order of the groups; None: neither.
    ranks : int

    Returns
    -------
    list of groups
        Each a list with one batch of indices a rank.

    Raises
    ------
    InvalidArgument
        If there are fewer samples than ranks.

    Examples
    --------
    >>> cut([5, 3, 4, 5], lambda length: 8 // length + 1, None, 1)
    [[[0, 3]], [[2, 1]]]
    """
    sizes = np.asarray(lengths)
    if len(sizes) < ranks:
        raise InvalidArgument(f"{len(sizes)} samples are too few for {ranks} ranks.")
    chance = np.arange(len(sizes)) if generator is None else generator.permutation(len(sizes))
    order = np.lexsort((chance, -sizes)).tolist()
    batches = _greedy(order, sizes.tolist(), most, _first(order, sizes.tolist(), most, generator))
    _go_round(batches, ranks)
    groups = [batches[i : i + ranks] for i in range(0, len(batches), ranks)]
    if generator is None:
        return groups
    return [groups[i] for i in generator.permutation(len(groups)).tolist()]


def _greedy(
    order: Sequence[int], sizes: Sequence[int], most: Callable[[int], int], first: int
) -> Batches:
    """Samples in an order, as many in each batch as go in; at most so many in the first."""
    batches: Batches = []
    at, limit = 0, first
    while at < len(order):
        size = min(most(sizes[order[at]]), limit)
        batches.append(list(order[at : at + size]))
        at, limit = at + size, len(order)
    return batches


def _first(
    order: Sequence[int],
    sizes: Sequence[int],
    most: Callable[[int], int],
    generator: np.random.Generator | None,
) -> int:
    """Where the first batch ends: drawn, so that others meet in the next epoch.

    Never so that there is a batch more: one batch at most is not full.
    """
    whole = most(sizes[order[0]])
    if generator is None:
        return whole
    least = len(_greedy(order, sizes, most, whole))
    for _ in range(_DRAWS):
        drawn = int(generator.integers(1, whole + 1))
        if len(_greedy(order, sizes, most, drawn)) == least:
            return drawn
    return whole


def _go_round(batches: Batches, ranks: int) -> None:
    """Split the batches of most samples until there are as many on every rank, in place."""
    while len(batches) % ranks:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        whole = batches[largest]
        middle = (len(whole) + 1) // 2
        batches[largest : largest + 1] = [whole[:middle], whole[middle:]]
