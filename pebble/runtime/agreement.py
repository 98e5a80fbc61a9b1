"""How far two runs of a step agree: bit for bit, up to rounding, or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pebble.tracing.torch_private.sparse_rows import parts

Tensors = Sequence[torch.Tensor | None]
Named = Mapping[str, torch.Tensor | None]

_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_NOISES = 8.0
"""How many times the change that one rounding of the weights makes two right steps may differ."""


@dataclass(frozen=True)
class Difference:
    """One thing that a step leaves behind otherwise than eager does.

    Attributes
    ----------
    name : str
        Such as ``gradient of 'head.weight'``.
    relative : float
        Largest difference over the largest entry in eager; infinite where one of the two is not
        there or has another shape or dtype.
    allowed : float
        What rounding may make of it.
    how : str
        The difference in words, after the name.
    """

    name: str
    relative: float
    allowed: float
    how: str

    @property
    def beyond_rounding(self) -> bool:
        """Whether it cannot come from sums in another order."""
        return not self.relative <= self.allowed

    def __str__(self) -> str:
        return f"the {self.name} {self.how}"


@dataclass(frozen=True)
class Agreement:
    """A step beside eager's.

    Attributes
    ----------
    differences : tuple of Difference
        Of everything that is not equal bit for bit, in the order in which a step makes it.
    """

    differences: tuple[Difference, ...] = ()

    @property
    def bitwise(self) -> bool:
        """Whether everything is equal bit for bit."""
        return not self.differences

    @property
    def wrong(self) -> Difference | None:
        """The first difference that is beyond rounding."""
        return next((d for d in self.differences if d.beyond_rounding), None)

    @property
    def largest(self) -> float:
        """The largest difference of all, relative to the largest entry of its tensor."""
        return max((d.relative for d in self.differences), default=0.0)

    def largest_of(self, kind: str) -> float:
        """The same of the names that begin so."""
        found = (d.relative for d in self.differences if d.name.startswith(kind))
        return max(found, default=0.0)


def compare(found: Named, expected: Named, noise: Mapping[str, float] | None = None) -> Agreement:
    """What one step leaves behind, beside what eager does.

    Parameters
    ----------
    found, expected : mapping of str to Tensor or None
        In the order in which differences are told. Tensors of the one may be elsewhere than those
        of the other: they are brought together one at a time.
    noise : mapping of str to float, optional
        By how much eager itself differs where its weights are rounded once more: two right steps
        may differ by a few times as much.

    Examples
    --------
    >>> import torch
    >>> one = {"loss": torch.tensor(2.0), "gradient of 'w'": None}
    >>> other = {"loss": torch.tensor(2.5), "gradient of 'w'": None}
    >>> print(compare(other, one).wrong)
    the loss is off by 0.25 of its largest entry (rounding: 1e-05)
    """
    return Agreement(tuple(_differences(found, expected, noise or {})))


def _differences(found: Named, expected: Named, noise: Mapping[str, float]) -> Iterator[Difference]:
    for name in (*expected, *(n for n in found if n not in expected)):
        a, b = found.get(name), expected.get(name)
        if a is None and b is None:
            continue
        if a is None or b is None:
            how = "is missing" if a is None else "is there, which in eager it is not"
            yield Difference(name, math.inf, 0.0, how)
        elif a.shape != b.shape or a.dtype is not b.dtype or a.layout is not b.layout:
            how = f"is {_shown(a)}, in eager {_shown(b)}"
            yield Difference(name, math.inf, 0.0, how)
        elif not same_contents(a, b):
            scale = _largest(b)
            relative = largest_difference(a, b) / scale
            allowed = max(_ROUNDING.get(b.dtype, 0.0), _NOISES * noise.get(name, 0.0) / scale)
            how = f"is off by {relative:.2g} of its largest entry (rounding: {allowed:.0e})"
            yield Difference(name, relative, allowed, how)


def _shown(tensor: torch.Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    sparse = "" if tensor.layout is torch.strided else f"{tensor.layout} "
    return f"{sparse}{dtype}{list(tensor.shape)}"


def same_contents(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit; a NaN is equal to a NaN.

    Sparse ones are where their parts are, or what they stand for.

    Examples
    --------
    >>> import torch
    >>> same_contents(torch.tensor([0.0, float("nan")]), torch.tensor([0.0, float("nan")]))
    True
    """
    if tensor.dtype is not expected.dtype or tensor.shape != expected.shape:
        return False
    expected = expected.to(tensor.device)
    if tensor.layout is torch.sparse_coo and expected.layout is torch.sparse_coo:
        if all(map(torch.equal, parts(tensor), parts(expected))):
            return True
        tensor, expected = tensor.to_dense(), expected.to_dense()
    if torch.equal(tensor, expected):
        return True
    return bool(_equal_entries(tensor, expected).all())  # a NaN may be where a NaN was


def _equal_entries(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a == b) | (a.isnan() & b.isnan())


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference of two tensors' entries; infinite where only one is a number."""
    if not b.numel():
        return 0.0
    a, b = _wide(a), _wide(b.to(a.device))
    found = torch.where(_equal_entries(a, b), 0.0, (a - b).abs())
    worst = float(found.max())
    return math.inf if math.isnan(worst) else worst


def _largest(tensor: torch.Tensor) -> float:
    found = _wide(tensor).abs().nan_to_num(0.0, 0.0, 0.0)
    return (float(found.max()) if found.numel() else 0.0) or 1.0


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.to_dense()
    if tensor.is_complex() or tensor.dtype is torch.float32:
        return tensor
    return tensor.float() if tensor.element_size() < 4 else tensor.double()


def difference(found: Tensors, expected: Tensors) -> float:
    """The largest difference of two tensors, relative to the largest entry of the expected one.

    Examples
    --------
    >>> import torch
    >>> difference([torch.tensor([1.0, 4.0])], [torch.tensor([2.0, 4.0])])
    0.25
    """
    one, other = ({str(i): t for i, t in enumerate(tensors)} for tensors in (found, expected))
    return compare(one, other).largest


def tolerance(found: Tensors) -> float:
    """What sums in another order may change of a gradient, relative to its largest entry."""
    dtypes = {t.dtype for t in found if t is not None}
    return max((_ROUNDING.get(dtype, 0.0) for dtype in dtypes), default=0.0)
