"""The rules of a graph: unique names, sane numbers, one producer a value, a topological order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pebble.errors import GraphError
from pebble.ops import Op, Value
from pebble.schema import shortened

LARGEST_TOTAL = 2**62
"""Of sizes and of costs: sums still fit an int64."""


def check_rules(
    ops: Sequence[Op], values: Sequence[Value], *, name: str, boundary: int | None
) -> None:
    """Refuse what is no graph.

    Raises
    ------
    GraphError
        With one sentence that names the op or the value.
    """
    _check_unique("op", (op.name for op in ops))
    _check_unique("value", (value.name for value in values))
    for value in values:
        _check_number(f"size of value {value.name!r}", value.size)
    for op in ops:
        _check_number(f"cost of op {op.name!r}", op.cost)
        _check_number(f"workspace of op {op.name!r}", op.workspace)
    totals = (
        ("sizes", sum(v.size for v in values) + sum(op.workspace for op in ops)),
        ("costs", sum(op.cost for op in ops)),
    )
    for what, total in totals:
        if total > LARGEST_TOTAL:
            raise GraphError(
                f"The {what} of graph {name!r} sum to {shortened(total)}, above 2**62; "
                "use a larger unit."
            )
    made_by = _producers(ops, values, name)
    _check_order(ops, values, made_by)
    if boundary is not None:
        _check_number(f"boundary of graph {name!r}", boundary)
    if boundary is not None and boundary >= len(ops):
        raise GraphError(
            f"The boundary of graph {name!r} is op {shortened(boundary)}, but there are "
            f"{len(ops)} ops; pass the index of one of them, or None."
        )


def _producers(ops: Sequence[Op], values: Sequence[Value], name: str) -> dict[int, str]:
    """The name of the op that makes each value; every value that is not external has one."""
    made_by: dict[int, str] = {}
    for op in ops:
        for v in (*op.inputs, *op.outputs):
            if not isinstance(v, (int, np.integer)):
                raise GraphError(
                    f"Op {op.name!r} names value {shortened(v)}; a value is named by its index."
                )
            if not 0 <= v < len(values):
                raise GraphError(
                    f"Op {op.name!r} names value {v}, but graph {name!r} has values "
                    f"0 to {len(values) - 1}."
                )
        for v in op.outputs:
            if values[v].external:
                raise GraphError(
                    f"Op {op.name!r} makes value {values[v].name!r}, which is external; "
                    "external values (parameters, inputs) are made by no op."
                )
            if v in made_by:
                raise GraphError(
                    f"Value {values[v].name!r} is made by op {made_by[v]!r} and by op "
                    f"{op.name!r}; give each op a value of its own."
                )
            made_by[v] = op.name
    for i, value in enumerate(values):
        if not value.external and i not in made_by:
            raise GraphError(
                f"Value {value.name!r} is made by no op; mark it external or add its producer."
            )
    return made_by


def _check_order(ops: Sequence[Op], values: Sequence[Value], made_by: Mapping[int, str]) -> None:
    done: set[int] = set()
    for op in ops:
        for v in op.inputs:
            if not values[v].external and v not in done:
                raise GraphError(
                    f"Op {op.name!r} reads value {values[v].name!r} before op "
                    f"{made_by[v]!r} makes it; list the ops in a topological order."
                )
        done.update(op.outputs)


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise GraphError(f"Two {what}s are called {name!r}; names must be unique.")
        seen.add(name)


def _check_number(what: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise GraphError(f"The {what} is {shortened(number)}; it must be an integer.")
    if number < 0:
        raise GraphError(f"The {what} is {shortened(number)}; it must not be negative.")
