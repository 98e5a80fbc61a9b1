"""The backward half of a step for calls in which some outputs got no gradient.

Zeros in their place would give parameters a gradient of zeros where eager gives none, and a wrong
one where zero meets an infinite derivative; so what they alone reach is left out.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx

from pebble.runtime.boxed_code import hand_over


def without_tangents(
    backward: fx.GraphModule, n_tangents: int, missing: Collection[int]
) -> fx.GraphModule:
    """A backward half that is not given some of its tangents.

    Parameters
    ----------
    backward : fx.GraphModule
        Its last placeholders are the tangents.
    n_tangents : int
    missing : collection of int
        Positions of the tangents that are not there.

    Returns
    -------
    fx.GraphModule
        What depends on them alone is left out: None among the results, zeros where it is
        joined with something else.
    """
    graph = fx.Graph()
    results = graph.graph_copy(backward.graph, {})
    tangents = [node for node in graph.nodes if node.op == "placeholder"][-n_tangents:]
    absent = {tangents[i] for i in missing}
    dead = _reached_by_these_alone(graph, absent, set(tangents) - absent)
    used = {node for node in graph.nodes if node.users}
    for node in list(graph.nodes):
        if node not in dead:
            for arg in dead.intersection(node.all_input_nodes):
                with graph.inserting_before(node):
                    node.replace_input_with(arg, _zeros_like(graph, arg))
    assert isinstance(results, (tuple, list))
    graph.output(tuple(None if node in dead else node for node in results))
    for node in reversed(list(graph.nodes)):
        idle = node.op == "call_function" and node in used and not _leaves_a_trace(node)
        if not node.users and (node in dead or idle):
            graph.erase_node(node)
    graph.lint()
    return fx.GraphModule(backward, graph, "PebblePartialBackward")


def zeros(
    size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Zeros of these strides, which may overlap, in a storage as small as they allow."""
    steps = sum((n - 1) * step for n, step in zip(size, stride))
    numbers = 0 if 0 in size else 1 + steps
    return torch.zeros(numbers, dtype=dtype, device=device).as_strided(size, stride)


def _zeros_like(graph: fx.Graph, node: fx.Node) -> fx.Node:
    like: torch.Tensor = node.meta["val"]
    given = (tuple(like.shape), like.stride(), like.dtype, like.device)
    made = graph.call_function(zeros, given)
    made.meta = {"val": like}
    return made


def _reached_by_these_alone(
    graph: fx.Graph, absent: set[fx.Node], present: set[fx.Node]
) -> set[fx.Node]:
    dead, live = set(absent), set(present)
    for node in graph.nodes:
        if not live.isdisjoint(node.all_input_nodes):
            live.add(node)
        elif not dead.isdisjoint(node.all_input_nodes):
            dead.add(node)
    return dead


def _leaves_a_trace(node: fx.Node) -> bool:
    """Whether a call does more than return something: it draws, or hands a gradient over."""
    seeded = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    return seeded or node.target is hand_over
