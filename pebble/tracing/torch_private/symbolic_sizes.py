"""Sizes that a trace leaves open: dimensions as symbols, and for which numbers it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

Numbers = Mapping[Any, int]
"""A number for each symbol."""
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_STATIC_MARK = "_dynamo_static_indices"


@contextlib.contextmanager
def open_sizes(
    tensors: Sequence[torch.Tensor], dimensions: Sequence[Collection[int]]
) -> Iterator[None]:
    """Have dynamo trace dimensions of inputs as symbols, and every other size as it is.

    Dimensions of one size are one symbol, so sizes that may differ later must differ here.

    Parameters
    ----------
    tensors : sequence of Tensor
        Inputs of the trace.
    dimensions : sequence of collections of int
        Of each tensor, those left open.
    """
    before = [vars(tensor).get(_STATIC_MARK) for tensor in tensors]
    try:
        for tensor, left_open in zip(tensors, dimensions, strict=True):
            fixed = [d for d in range(tensor.dim()) if d not in left_open]
            if fixed:
                torch._dynamo.mark_static(tensor, fixed)
        with torch._dynamo.config.patch(assume_static_by_default=False):
            yield
    finally:
        for tensor, old in zip(tensors, before):
            if old is None:
                vars(tensor).pop(_STATIC_MARK, None)
            else:
                setattr(tensor, _STATIC_MARK, old)


@dataclass(frozen=True)
class SizeDomain:
    """For which sizes a trace holds.

    Attributes
    ----------
    examples : tuple of Tensor
        The inputs as they were traced, sizes and strides symbolic.
    shape_env : object
        Of the trace.
    """

    examples: tuple[torch.Tensor, ...]
    shape_env: Any

    def numbers(self, tensors: Sequence[torch.Tensor]) -> dict[Any, int] | None:
        """The symbols for inputs of these sizes; None if the trace does not hold for them."""
        found: dict[Any, int] = {}
        if len(tensors) != len(self.examples):
            return None
        for example, tensor in zip(self.examples, tensors):
            if _kind(example) != _kind(tensor):
                return None
            for size, now in zip(example.shape, tensor.shape):
                expression = size.node.expr if isinstance(size, torch.SymInt) else None
                if expression is None or expression.is_number:
                    if int(size if expression is None else expression) != now:
                        return None
                elif not expression.is_symbol or found.setdefault(expression, now) != now:
                    return None
        return found if self._holds(found) and self._laid_out(tensors, found) else None

    def _laid_out(self, tensors: Sequence[torch.Tensor], numbers: Numbers) -> bool:
        return all(
            tuple(number(s, numbers) for s in example.stride()) == tensor.stride()
            for example, tensor in zip(self.examples, tensors)
        )

    def _holds(self, numbers: Numbers) -> bool:
        env = self.shape_env
        for symbol, now in numbers.items():
            span = env.var_to_range.get(symbol)
            if span is not None and not span.lower <= now <= span.upper:
                return False
            other = env.replacements.get(symbol)
            if other is not None and other.xreplace(numbers) != now:
                return False
        # a symbol that the trace settled is no longer in any size, but may be in a guard
        settled = {s: e.xreplace(numbers) for s, e in env.replacements.items()}
        known = {**settled, **numbers}
        return all(bool(guard.expr.xreplace(known)) for guard in env.guards)


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dim(), tensor.dtype, tensor.device, tensor.layout, tensor.requires_grad


def number(value: Any, numbers: Numbers) -> Any:
    """A size as a number.

    Raises
    ------
    TypeError
        If it depends on a symbol that has none: one that stands for data.
    """
    if not isinstance(value, _SYMBOLIC):
        return value
    found = value.node.expr.xreplace(numbers)
    kind = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}[type(value)]
    return kind(found)


def size_key(size: Any) -> Any:
    """What sizes that are known to be equal have in common; comparing it decides nothing more."""
    return size.node.expr if isinstance(size, torch.SymInt) else size


def is_symbolic(value: Any) -> bool:
    """Whether a value is a size that was left open, or is computed from one."""
    return isinstance(value, _SYMBOLIC)


def depends_on_data(graph: fx.Graph, key: str = "example_value") -> bool:
    """Whether a size in a graph is known only when it runs."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    values = (node.meta.get(key) for node in graph.nodes)
    return any(
        free_unbacked_symbols(part)
        for value in values
        for part in (value if isinstance(value, (tuple, list)) else (value,))
        if isinstance(part, (torch.Tensor, *_SYMBOLIC))
    )
