"""Compiled: sets of at most 64 nodes as words of 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.compiling import inner

ONE = np.uint64(1)
ZERO = np.uint64(0)


@inner
def lowest(word: Any) -> Any:
    """Index of the lowest bit of a word that is not zero."""
    index = 0
    if word & np.uint64(0xFFFFFFFF) == ZERO:
        index += 32
        word >>= np.uint64(32)
    if word & np.uint64(0xFFFF) == ZERO:
        index += 16
        word >>= np.uint64(16)
    if word & np.uint64(0xFF) == ZERO:
        index += 8
        word >>= np.uint64(8)
    if word & np.uint64(0xF) == ZERO:
        index += 4
        word >>= np.uint64(4)
    if word & np.uint64(0x3) == ZERO:
        index += 2
        word >>= np.uint64(2)
    if word & ONE == ZERO:
        index += 1
    return index


@inner
def total(word: Any, numbers: Any) -> Any:
    """Sum of the numbers of a set of nodes."""
    result = 0
    while word != ZERO:
        result += numbers[lowest(word)]
        word &= word - ONE
    return result


@inner
def closure(frontier: Any, stop: Any, preds: Any) -> Any:
    """The frontier and what it depends on, not going through the nodes in `stop`."""
    need = ZERO
    todo = frontier
    while todo != ZERO:
        v = lowest(todo)
        need |= ONE << np.uint64(v)
        todo = (todo & (todo - ONE)) | (preds[v] & ~stop & ~need)
    return need


@inner
def absent(frontier: Any, leaving: Any, there: Any, preds: Any) -> Any:
    """Absent nodes that must come: the frontier, and what it or a leaving pebble depends on."""
    todo = frontier
    while leaving != ZERO:
        todo |= preds[lowest(leaving)] & ~there
        leaving &= leaving - ONE
    return closure(todo, there, preds)


@inner
def permuted(word: Any, image: Any) -> Any:
    """The image of a set of nodes, from the images of its bytes."""
    result = ZERO
    for i in range(8):
        result |= image[i, word & np.uint64(255)]
        word >>= np.uint64(8)
    return result


@inner
def canonical(a: Any, b: Any, c: Any, images: Any) -> Any:
    """The least image of a state, and which image it is (0: the state itself)."""
    x, y, z, which = a, b, c, 0
    for k in range(len(images)):
        new = permuted(a, images[k])
        if new > x:
            continue
        if b | c == ZERO:
            if new < x:
                x, which = new, k + 1
            continue
        second, third = permuted(b, images[k]), permuted(c, images[k])
        if new < x or second < y or (second == y and third < z):
            x, y, z, which = new, second, third, k + 1
    return x, y, z, which
