"""Where in a traced forward eager's cache of cast weights lives, and when it is emptied."""

from __future__ import annotations

import torch
from torch import fx


def casts_are_cached() -> bool:
    """Whether the code that runs now stands under an autocast that keeps cast weights."""
    return _depth() > 0 and torch.is_autocast_cache_enabled()


def inside_autocast() -> bool:
    """Whether the code that runs now stands in an autocast, were it switched off."""
    return _depth() > 0


def may_be_cached(tensor: torch.Tensor) -> bool:
    """Torch's own rule: full precision, differentiated, a leaf and no view."""
    leaf = tensor.requires_grad and tensor.is_leaf and not tensor._is_view()
    return leaf and tensor.dtype is torch.float32


def cast_regions(graph: fx.Graph) -> dict[str, int | None]:
    """The region of autocast that each node of a traced forward runs in, by the node's name.

    Nodes of one number share a cache of cast weights; None: there is no cache. Torch empties it
    where the outermost autocast ends. Empty if the forward itself enters no autocast: then all of
    it runs as its surroundings do.

    Parameters
    ----------
    graph : fx.Graph
        Of torch calls, as dynamo makes it; dynamo writes a node where autocast begins and ends.
    """
    from torch.amp.autocast_mode import _enter_autocast, _exit_autocast

    if not any(node.target is _enter_autocast for node in graph.nodes):
        return {}
    depth, region = _depth(), 0
    cached = [torch.is_autocast_cache_enabled()]
    found: dict[str, int | None] = {}
    for node in graph.nodes:
        if node.target is _enter_autocast:
            depth += 1
            own = node.args[3] if len(node.args) > 3 else None
            cached.append(cached[-1] if own is None else bool(own))
        elif node.target is _exit_autocast:
            depth -= 1
            cached.pop()
            region += depth == 0
        else:
            found[node.name] = region if depth > 0 and cached[-1] else None
    return found


def _depth() -> int:
    """How many autocasts the code that runs now stands in, switched off ones counted."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()
