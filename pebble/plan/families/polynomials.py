"""Whole numbers as polynomials of a step's batch size and length, exact to the last byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pebble.arrays import IntArray
from pebble.errors import InvalidArgument

Coefficients = tuple[Fraction, ...]


class Shape(NamedTuple):
    """Samples, and tokens (or what else there is) of each; a length of 0 where there is none."""

    batch: int
    length: int = 0

    def __str__(self) -> str:
        return f"{self.batch} x {self.length}" if self.length else f"{self.batch}"


@dataclass(frozen=True)
class Basis:
    """The products of powers that numbers of a step are made of.

    Attributes
    ----------
    powers : tuple of (int, int)
        Exponents of batch and length.

    Examples
    --------
    >>> Basis.of(batches=True, lengths=True).powers
    ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2))
    >>> Basis.of(batches=True, lengths=False).at(Shape(3))
    (1, 3)
    """

    powers: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *, batches: bool, lengths: bool) -> Basis:
        """Linear in the batch; in the length quadratic, as attention is."""
        return cls(
            tuple((b, n) for n in range(3 if lengths else 1) for b in range(2 if batches else 1))
        )

    def at(self, shape: Shape) -> tuple[int, ...]:
        """Each product for a shape."""
        return tuple(shape.batch**b * shape.length**n for b, n in self.powers)

    def along_batch(self, length: int) -> NDArray[np.float64]:
        """Of coefficients, constant and slope along the batch at a length; shape (n_powers, 2)."""
        found = np.zeros((len(self.powers), 2))
        for row, (b, n) in zip(found, self.powers):
            row[b] = float(length**n)
        return found

    def solving(self, shapes: Sequence[Shape]) -> list[Coefficients]:
        """Row k: by what the number at shape k enters each coefficient.

        Raises
        ------
        InvalidArgument
            If the shapes do not tell the coefficients.
        """
        size = len(self.powers)
        rows = [
            [*map(Fraction, self.at(shape)), *(Fraction(i == k) for k in range(size))]
            for i, shape in enumerate(shapes)
        ]
        for i in range(size):
            pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
            if pivot is None or len(rows) != size:
                raise InvalidArgument(
                    f"{', '.join(map(str, shapes))}: shapes that do not tell how sizes grow."
                )
            rows[i], rows[pivot] = rows[pivot], rows[i]
            first = rows[i][i]
            rows[i] = [x / first for x in rows[i]]
            for r in range(size):
                if r != i and rows[r][i]:
                    by = rows[r][i]
                    rows[r] = [x - by * y for x, y in zip(rows[r], rows[i])]
        inverse = [row[size:] for row in rows]  # coefficient m from number k
        return [tuple(inverse[m][k] for m in range(size)) for k in range(size)]


@dataclass(frozen=True)
class Polynomials:
    """Numbers of a step, each a polynomial of the shape. Most steps have few different ones.

    Attributes
    ----------
    basis : Basis
    which : IntArray
        Index of the polynomial of each number.
    coefficients : tuple of Coefficients

    Examples
    --------
    >>> basis = Basis.of(batches=True, lengths=False)
    >>> found = Polynomials.through(basis, {Shape(2): [8, 5], Shape(3): [12, 5]})
    >>> found.at(Shape(10)).tolist()
    [40, 5]
    """

    basis: Basis
    which: IntArray
    coefficients: tuple[Coefficients, ...]

    @classmethod
    def through(cls, basis: Basis, known: Mapping[Shape, Sequence[int]]) -> Polynomials:
        """Those that have these numbers at as many shapes as the basis has products."""
        weights = basis.solving(list(known))
        columns = list(zip(*known.values(), strict=True))
        index: dict[tuple[int, ...], int] = {}
        which = [index.setdefault(column, len(index)) for column in columns]
        made = [
            tuple(
                sum((w[m] * n for w, n in zip(weights, column)), Fraction(0))
                for m in range(len(basis.powers))
            )
            for column in index
        ]
        return cls(basis, np.array(which, np.int64), tuple(made))

    def at(self, shape: Shape) -> IntArray:
        """The numbers at a shape, rounded up; none is below 0."""
        products = self.basis.at(shape)
        found = [
            max(math.ceil(sum(c * p for c, p in zip(row, products))), 0)
            for row in self.coefficients
        ]
        return np.array(found, np.int64)[self.which]

    def replaced(self, columns: Mapping[int, Coefficients]) -> Polynomials:
        """The same with other polynomials for some of the numbers."""
        which, made = self.which.copy(), list(self.coefficients)
        for column, row in columns.items():
            which[column] = len(made)
            made.append(row)
        return Polynomials(self.basis, which, tuple(made))

    def to_json(self) -> dict[str, Any]:
        """As plain data: fractions as text."""
        rows = [[str(c) for c in row] for row in self.coefficients]
        return {"which": self.which.tolist(), "coefficients": rows}

    @classmethod
    def from_json(cls, basis: Basis, data: Mapping[str, Any]) -> Polynomials:
        """From what `to_json` gives."""
        rows = tuple(tuple(map(Fraction, row)) for row in data["coefficients"])
        return cls(basis, np.array(data["which"], np.int64), rows)


def bound_through(basis: Basis, points: Iterable[tuple[Shape, int]]) -> Coefficients:
    """A whole multiple of one product of the basis that is nowhere below known numbers.

    Of those multiples the one that exceeds them least.

    Examples
    --------
    >>> basis = Basis.of(batches=True, lengths=False)
    >>> [str(c) for c in bound_through(basis, [(Shape(2), 9), (Shape(4), 16)])]
    ['0', '5']
    """
    known = list(points)
    best: tuple[Fraction, Coefficients] | None = None
    for m in range(len(basis.powers)):
        products = [basis.at(shape)[m] for shape, _ in known]
        factor = Fraction(max((-(-n // p) for (_, n), p in zip(known, products)), default=0))
        excess = sum((factor * p - n for (_, n), p in zip(known, products)), Fraction(0))
        row = tuple(factor if k == m else Fraction(0) for k in range(len(basis.powers)))
        if best is None or excess < best[0]:
            best = excess, row
    assert best is not None
    return best[1]
