"""Whether two graphs are the same computation, and if not, the first difference in words."""

from __future__ import annotations

from pebble.graph import Graph


def first_difference(planned: Graph, given: Graph) -> str | None:
    """The first difference between two graphs, or None if they compute the same.

    Names, costs, workspaces and sizes do not count: they depend on the machine, and on whether the
    step was run when it was traced.

    Examples
    --------
    >>> from pebble.graph import Graph, Op, Value
    >>> def one(spec):
    ...     return Graph([Op("a", 1, (), (0,), kind="aten.relu")], [Value("x", 4, spec=spec)])
    >>> first_difference(one("f32[1]"), one("f32[1]"))
    >>> first_difference(one("f32[1]"), one("bf16[2]"))
    "op 'a' makes f32[1] in the plan, but bf16[2] here"
    """
    if planned.fingerprint == given.fingerprint or _unsized(planned) == _unsized(given):
        return None
    for u, v in zip(planned.values, given.values):
        if u.external and v.external and u.spec != v.spec:
            return f"{u.name!r} is {u.spec} in the plan, but {v.name!r} is {v.spec}"
    for a, b in zip(planned.ops, given.ops):
        if a.kind != b.kind:
            return f"op {a.name!r} is {a.kind} in the plan, but {b.kind} here"
        for verb, ours, theirs in (("makes", a.outputs, b.outputs), ("reads", a.inputs, b.inputs)):
            there = ", ".join(planned.values[v].spec for v in ours)
            here = ", ".join(given.values[v].spec for v in theirs)
            if there != here:
                return f"op {a.name!r} {verb} {there} in the plan, but {here} here"
        if a.inputs != b.inputs:
            return f"op {a.name!r} reads other values here than in the plan"
        if a.recomputable != b.recomputable:
            return f"op {a.name!r} may be recomputed in only one of the two"
    if len(planned.ops) != len(given.ops):
        return f"the plan has {len(planned.ops)} ops, this model has {len(given.ops)}"
    return "what the caller keeps differs"


def _unsized(graph: Graph) -> str:
    return graph.with_measures(sizes=(0,) * len(graph.values)).fingerprint
