"""Calls written into a traced graph, each with what fake tensors say that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from pebble.tracing.torch_private.fake_tensors import FakeTensorMode


@dataclass
class CallWriter:
    """Writes nodes at a graph's point of insertion.

    Attributes
    ----------
    graph : fx.Graph
    fake_mode : FakeTensorMode
        Of the tensors that the graph was traced on.
    like : fx.Node or None
        Whose place in the model (module, line, half) the new nodes have.
    """

    graph: fx.Graph
    fake_mode: FakeTensorMode
    like: fx.Node | None = None

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A node that calls an op on other nodes and constants."""
        made = self.graph.call_function(target, args, kwargs)
        place = {} if self.like is None else self.like.meta
        made.meta = {k: v for k, v in place.items() if k not in ("val", "tensor_meta")}
        given = fx.map_arg((args, kwargs), lambda node: node.meta["val"])
        with self.fake_mode:
            made.meta["val"] = target(*given[0], **given[1])
        return made
