"""Which kernels inductor may fuse without leaving the order of a plan."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

_LIGHT = 1 / 50
"""Of the largest buffer: what may be made early."""
_known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def order_kept() -> Iterator[None]:
    """Inductor fuses only what need not move from where the plan has it.

    A fused kernel runs where its first part stood, and what its later parts read runs before. So
    two kernels are fused only where nothing of weight stands between them, or where the later one
    is light itself and does not depend on it.
    """
    from torch._inductor.choices import InductorChoices
    from torch._inductor.virtualized import V

    class OrderKept(InductorChoices):
        """Inductor's own choices, less those that move a kernel far."""

        @staticmethod
        def can_fuse(scheduler: Any, node1: Any, node2: Any, shared_data_score: int) -> bool:
            """Whether two kernels may be fused."""
            usual: bool = InductorChoices.can_fuse(scheduler, node1, node2, shared_data_score)
            return usual and _stays(scheduler, node1, node2)

    with V.set_choices_handler(OrderKept()):
        yield


def _stays(scheduler: Any, node1: Any, node2: Any) -> bool:
    """Whether no part of the fused kernel that weighs anything moves past one that does.

    The scheduler's list is in the order before fusion, in which each node has its position.
    """
    own = node1.get_operation_names() | node2.get_operation_names()
    start = int(min(node1.min_order, node2.min_order))
    end = int(max(node1.max_order, node2.max_order))
    weights = [_bytes(node) for node in scheduler.nodes[start : end + 1]]
    light = _LIGHT * _largest(scheduler)
    passed = None
    names: set[str] = set()
    for node, weight in zip(scheduler.nodes[start : end + 1], weights, strict=True):
        if node.get_name() not in own:
            if weight > light:
                passed = node
                names.add(node.get_name())
        elif passed is not None and (weight > light or not names.isdisjoint(node.ancestors)):
            return False
    return True


def _largest(scheduler: Any) -> int:
    """Bytes of the largest buffer that is made."""
    if scheduler not in _known:
        _known[scheduler] = max(map(_bytes, scheduler.nodes), default=0)
    return _known[scheduler]


def _bytes(node: Any) -> int:
    """Bytes of the buffers that a kernel makes; sizes are fixed."""
    total = 0
    for buffer in node.get_outputs():
        made = buffer.node
        if made is not None and made.has_tensor_output():
            total += int(made.get_numel()) * int(made.get_dtype().itemsize)
    return total
