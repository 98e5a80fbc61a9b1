"""Effect tokens of a joint graph: the thread that AOT autograd pulls through checks and prints."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from pebble.errors import CaptureError
from pebble.tracing.torch_private.operators import OpOverload


def drop_tokens(graph: fx.Graph) -> None:
    """Have ops with an effect stand in a joint graph as what they are, in place.

    AOT autograd wraps the check of a linear solve, say, as ``with_effects(token, op, ...)``, takes
    a token as first argument and returns the last one. The order that it keeps so is kept by the
    turns of pebble's graph.

    Raises
    ------
    CaptureError
        If what has the effect is no op, or one that returns something.
    """
    # The higher-order op has no public name; importing its module registers effects of torch's own.
    from torch._higher_order_ops.effects import with_effects

    for node in list(graph.nodes):
        if node.target is with_effects:
            _stand_alone(graph, node)
    output = graph.output_node()
    kept = [
        (result, desc)
        for result, desc in zip(output.args[0], output.meta["desc"])  # type: ignore[arg-type]
        if not _is_token(desc)
    ]
    output.args = ([result for result, _ in kept],)
    output.meta["desc"] = [desc for _, desc in kept]
    tokens = [n for n in graph.nodes if n.op == "placeholder" and _is_token(n.meta["desc"])]
    dead = [n for n in graph.nodes if n.target is with_effects or n in tokens]
    items = {item for n in dead for item in n.users if item.target is operator.getitem}
    for node in reversed(list(graph.nodes)):
        if node in items or node in dead:
            graph.erase_node(node)


def _stand_alone(graph: fx.Graph, node: fx.Node) -> None:
    """Write the op inside of a node before it; the node itself is left with its tokens."""
    _, op, *args = node.args
    results = [item for item in node.users if item.args[1] != 0]
    if not isinstance(op, OpOverload) or results:
        raise CaptureError(
            f"The step calls {op}, whose effect on the world outside no plan can repeat. Leave it "
            "out of the forward, or plan the part of the model without it."
        )
    with graph.inserting_before(node):
        made = graph.call_function(op, tuple(args), dict(node.kwargs))
    made.meta = {key: value for key, value in node.meta.items() if key != "val"}


def _is_token(desc: Any) -> bool:
    return "TokenAOT" in type(desc).__name__
