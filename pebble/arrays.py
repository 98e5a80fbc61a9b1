"""A graph as flat integer arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.ops import Op, Value

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class GraphArrays:
    """A graph as flat integer arrays (CSR), for the referee and for solvers.

    External values are left out of `in_val` and have size 0 and producer -1 here: whoever
    counts bytes or orders ops never has to ask whether a value is external.

    Attributes
    ----------
    cost, workspace : IntArray, shape (n_ops,)
    recomputable : bool array, shape (n_ops,)
    size, producer : IntArray, shape (n_values,)
    pinned : bool array, shape (n_values,)
    in_ptr, in_val : op i reads the distinct values ``in_val[in_ptr[i]:in_ptr[i + 1]]``
    out_ptr, out_val : op i makes ``out_val[out_ptr[i]:out_ptr[i + 1]]``
    use_ptr, use_op : value v is read by the ops ``use_op[use_ptr[v]:use_ptr[v + 1]]``, ascending
    """

    cost: IntArray
    workspace: IntArray
    recomputable: NDArray[np.bool_]
    size: IntArray
    producer: IntArray
    pinned: NDArray[np.bool_]
    in_ptr: IntArray
    in_val: IntArray
    out_ptr: IntArray
    out_val: IntArray
    use_ptr: IntArray
    use_op: IntArray


def arrays_of(ops: Sequence[Op], values: Sequence[Value]) -> GraphArrays:
    """The ops and values of a graph as flat arrays."""
    internal = [not value.external for value in values]
    inputs = [[v for v in dict.fromkeys(op.inputs) if internal[v]] for op in ops]
    readers: list[list[int]] = [[] for _ in values]
    producer = np.full(len(values), -1, np.int64)
    for i, op in enumerate(ops):
        for v in inputs[i]:
            readers[v].append(i)
        producer[list(op.outputs)] = i
    in_ptr, in_val = _csr(inputs)
    out_ptr, out_val = _csr([op.outputs for op in ops])
    use_ptr, use_op = _csr(readers)
    return GraphArrays(
        cost=np.array([op.cost for op in ops], np.int64),
        workspace=np.array([op.workspace for op in ops], np.int64),
        recomputable=np.array([op.recomputable for op in ops], np.bool_),
        size=np.array([0 if v.external else v.size for v in values], np.int64),
        producer=producer,
        pinned=np.array([v.pinned and not v.external for v in values], np.bool_),
        in_ptr=in_ptr,
        in_val=in_val,
        out_ptr=out_ptr,
        out_val=out_val,
        use_ptr=use_ptr,
        use_op=use_op,
    )


def _csr(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    pointers = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=pointers[1:])
    return pointers, np.array([x for row in rows for x in row], np.int64)
