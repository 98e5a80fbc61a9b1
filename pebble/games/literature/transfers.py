"""Known lower bounds on red-blue transfers."""

from __future__ import annotations

from math import log2, sqrt


def matrix_product_transfers(rows: int, inner: int, columns: int, red: int) -> int:
    """A lower bound on red-blue transfers of a matrix product (Hong and Kung 1981).

    Every input is loaded and every output stored; and at least mkn / sqrt(2 S) - S in any case.

    Examples
    --------
    >>> matrix_product_transfers(3, 3, 3, 8)
    27
    """
    ends = rows * inner + inner * columns + rows * columns
    return max(ends, int(-(-(rows * inner * columns / sqrt(2 * red) - red) // 1)))


def butterfly_transfers(log2n: int, red: int) -> int:
    """A lower bound on red-blue transfers of the FFT on 2**log2n points (Hong and Kung 1981)."""
    n = 1 << log2n
    return max(2 * n, int(-(-(n * (log2n + 1) / (2 * log2(4 * red)) - red) // 1)))
