"""The rows (tokens) that a loss looks at: taken out of a matrix, and put back among zeros."""

from __future__ import annotations

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter
from pebble.tracing.row_forms import RowSlice

aten = torch.ops.aten


class TokenRows:
    """Writes what takes the rows of a loss out of matrices with a row for each token.

    Parameters
    ----------
    writer : CallWriter
    cuts : tuple of RowSlice
        From the rows of the matrices to those of the loss.
    """

    def __init__(self, writer: CallWriter, cuts: tuple[RowSlice, ...]) -> None:
        self.writer = writer
        self.cuts = cuts
        self.picked: dict[fx.Node, fx.Node] = {}

    def chunk(self, matrix: fx.Node, start: int, end: int) -> fx.Node:
        """Rows from start to end, as the loss counts them."""
        return self.writer.call(aten.slice.Tensor, self._picked(matrix), 0, start, end)

    def turned_chunk(self, matrix: fx.Node, start: int, end: int) -> fx.Node:
        """The same of a matrix with a column for each token."""
        part = self.chunk(self.writer.call(aten.t.default, matrix), start, end)
        return self.writer.call(aten.t.default, part)

    def restore(self, rows: fx.Node, shape: list[int]) -> fx.Node:
        """The matrix of this shape that has these rows, and zeros where the loss does not look."""
        width = shape[1]
        for cut in reversed(self.cuts):
            ranges = range(cut.start, cut.end, cut.step)
            kept = [len(ranges) if d == cut.dim else n for d, n in enumerate(cut.shape)]
            rows = self.writer.call(aten.view.default, rows, [*kept, width])
            rows = self.writer.call(
                aten.slice_backward.default, rows, [*cut.shape, width],
                cut.dim, cut.start, cut.end, cut.step,
            )  # fmt: skip
        return self.writer.call(aten.view.default, rows, shape) if self.cuts else rows

    def _picked(self, matrix: fx.Node) -> fx.Node:
        """Those rows that the loss looks at."""
        if not self.cuts:
            return matrix
        if matrix in self.picked:
            return self.picked[matrix]
        width, part = int(matrix.meta["val"].shape[1]), matrix
        for cut in self.cuts:
            part = self.writer.call(aten.reshape.default, part, [*cut.shape, width])
            part = self.writer.call(aten.slice.Tensor, part, cut.dim, cut.start, cut.end, cut.step)
        part = self.writer.call(aten.clone.default, part, memory_format=torch.contiguous_format)
        self.picked[matrix] = self.writer.call(aten.view.default, part, [-1, width])
        return self.picked[matrix]
