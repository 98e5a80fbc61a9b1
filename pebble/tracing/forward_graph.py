"""The forward of a step as a graph ready to be differentiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.signature import OutputKind, SlotKind, results_of
from pebble.tracing.torch_private.dynamo import ForwardTrace
from pebble.tracing.traced_inputs import TracedInputs
from pebble.tracing.traced_output import TracedOutput


@dataclass(frozen=True)
class ForwardGraph:
    """The traced forward with one placeholder per tensor and one result per output tensor.

    Attributes
    ----------
    graph_module : fx.GraphModule
    tensors : tuple of Tensor
        What the placeholders stand for.
    kinds : tuple of SlotKind
    names : tuple of tuple of str
        Every name of each tensor; none for a constant.
    places : tuple of int or None
        Where a constant is found in what the forward has read.
    """

    graph_module: fx.GraphModule
    tensors: tuple[torch.Tensor, ...]
    kinds: tuple[SlotKind, ...]
    names: tuple[tuple[str, ...], ...]
    places: tuple[int | None, ...]

    @classmethod
    def of(
        cls,
        traced: ForwardTrace,
        output: TracedOutput,
        model: nn.Module,
        inputs: TracedInputs,
    ) -> ForwardGraph:
        """The graph of a traced forward, with placeholders for unused inputs, too."""
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        graph.graph_copy(traced.graph_module.graph, copied)
        old = [n for n in traced.graph_module.graph.nodes if n.op == "placeholder"]
        tensors = list(traced.tensors)
        places = {id(tensor): copied[node] for tensor, node in zip(tensors, old)}
        first = next(iter(graph.nodes))

        def place(tensor: torch.Tensor) -> fx.Node:
            if id(tensor) not in places:
                with graph.inserting_before(first):
                    places[id(tensor)] = graph.placeholder(f"extra_{len(tensors)}")
                tensors.append(tensor)
            return places[id(tensor)]

        for tensor in inputs.tensors:
            place(tensor)
        results = results_of(traced.graph_module.graph)
        made = []
        for i, source in enumerate(output.sources):
            node = copied[results[source]] if isinstance(source, int) else place(source)
            if output.kinds[i] is not OutputKind.DIFFERENTIABLE:
                node = graph.call_method("detach", (node,))
            # The copy keeps autograd's rules for outputs that alias one another, or an input, out
            # of the joint graph; the clean-up of the joint graph removes it.
            made.append(graph.call_method("clone", (node,)))
        graph.output(tuple(made))
        ordered, kinds, names = _sort_slots(graph, places, tensors, model, inputs)
        module = fx.GraphModule(traced.graph_module, graph)
        found = {id(t): place for t, place in zip(traced.tensors, traced.places)}
        at = tuple(found.get(id(tensor)) for tensor in ordered)
        return cls(module, tuple(ordered), tuple(kinds), tuple(names), at)


def _sort_slots(
    graph: fx.Graph,
    places: Mapping[int, fx.Node],
    tensors: Sequence[torch.Tensor],
    model: nn.Module,
    inputs: TracedInputs,
) -> tuple[list[torch.Tensor], list[SlotKind], list[tuple[str, ...]]]:
    """Put the placeholders of the graph in order, and say what they are.

    Parameters and buffers in the model's order, constants, then inputs in the caller's order.
    """
    known: dict[int, tuple[SlotKind, list[str]]] = {}
    for kind, named in (
        (SlotKind.PARAMETER, model.named_parameters(remove_duplicate=False)),
        (SlotKind.BUFFER, model.named_buffers(remove_duplicate=False)),
        (SlotKind.INPUT, zip(inputs.paths, inputs.tensors)),
    ):
        for name, tensor in named:
            known.setdefault(id(tensor), (kind, []))[1].append(name)
    rank = {key: i for i, key in enumerate(known)}
    held = [t for t in tensors if id(t) in known and known[id(t)][0] is not SlotKind.INPUT]
    given = [t for t in tensors if id(t) in known and known[id(t)][0] is SlotKind.INPUT]
    constants = [t for t in tensors if id(t) not in known]
    for tensor in constants:
        if tensor.requires_grad:
            raise CaptureError(
                f"The forward uses a tensor of shape {list(tensor.shape)} that requires a gradient "
                "but is neither a parameter of the model nor an input. Register it as an "
                "nn.Parameter, or pass it to the forward."
            )
    held.sort(key=lambda t: rank[id(t)])
    given.sort(key=lambda t: rank[id(t)])
    ordered = [*held, *constants, *given]
    first = next(node for node in graph.nodes if node.op != "placeholder")
    for tensor in ordered:
        first.prepend(places[id(tensor)])
    kinds = [known[id(t)][0] if id(t) in known else SlotKind.CONSTANT for t in ordered]
    names = [tuple(known[id(t)][1]) if id(t) in known else () for t in ordered]
    return ordered, kinds, names
