"""The forward of a step as a graph ready to be differentiated: inputs, outputs, roots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.graph_builder import results_of
from pebble.tracing.output_templates import leaves, take_apart, without
from pebble.tracing.signature import SlotKind
from pebble.tracing.torch_private.dynamo import ForwardTrace
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.torch_private.pytree import call_leaves, tree_unflatten

Loss = Callable[[Any], torch.Tensor]

# -- inputs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TracedInputs:
    """The inputs, every tensor leaf an object of its own."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    paths: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    constants: dict[str, Any]
    fake: bool

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TracedInputs:
        found, spec = call_leaves(args, kwargs)
        held = [*model.parameters(), *model.buffers()]
        mode = fake_mode_of(*held, *(leaf for _, leaf in found))
        seen = {id(tensor) for tensor in held}
        made: list[Any] = []
        paths: list[str] = []
        constants: dict[str, Any] = {}
        for name, leaf in found:
            if not isinstance(leaf, torch.Tensor):
                constants[name] = leaf
                made.append(leaf)
                continue
            # Dynamo would make one placeholder for two inputs that are the same object today.
            own = _twin(leaf) if id(leaf) in seen else leaf
            own = own if mode is None else mode.from_tensor(own, static_shapes=True)
            seen.add(id(own))
            seen.add(id(leaf))
            made.append(own)
            paths.append(name)
        args, kwargs = tree_unflatten(made, spec)
        tensors = tuple(leaf for leaf in made if isinstance(leaf, torch.Tensor))
        return cls(args, kwargs, tuple(paths), tensors, constants, mode is not None)


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


# -- what is differentiated ----------------------------------------------------------------------


@dataclass(frozen=True)
class TracedOutput:
    """The tensors of the output: which result of the trace, or which tensor itself, each one is.

    Attributes
    ----------
    template : object
    sources : tuple of int or Tensor
        A result of the trace, or a tensor that the model returns as it is (an input, a weight).
    names : tuple of str
    roots : frozenset of int
        Positions of the tensors that are differentiated.
    """

    template: Any
    sources: tuple[int | torch.Tensor, ...]
    names: tuple[str, ...]
    roots: frozenset[int]


def read_output(
    traced: ForwardTrace, loss: Loss | None, *, loss_only: bool = False
) -> TracedOutput:
    """What the output of a trace is made of and what of it is differentiated.

    With `loss_only` the other tensors of the output are None: the step need not hold them.
    """
    with traced.fake_mode:
        stand_ins = [
            torch.empty_strided(e.shape, e.stride(), dtype=e.dtype, device=e.device).requires_grad_(
                e.requires_grad
            )
            for e in traced.examples
        ]
        output = traced.rebuild(stand_ins)
        template, tensors = take_apart(output)
        result = {id(tensor): i for i, tensor in enumerate(stand_ins)}
        roots = _roots_of(loss, output, tensors) if loss else _default_root(output, tensors)
    if loss_only:
        template = without(template, set(range(len(tensors))) - roots)
        tensors, roots = [tensors[i] for i in sorted(roots)], frozenset(range(len(roots)))
    return TracedOutput(
        template,
        tuple(result.get(id(tensor), tensor) for tensor in tensors),
        tuple(leaf.path for leaf in leaves(template)),
        roots,
    )


def _default_root(output: Any, tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    own = getattr(output, "loss", None)
    if own is None and isinstance(output, Mapping):
        own = output.get("loss")
    for i, tensor in enumerate(tensors):
        if tensor is own and tensor.requires_grad:
            return frozenset({i})
    for i, tensor in enumerate(tensors):
        if tensor.requires_grad:
            return frozenset({i})
    raise CaptureError(
        "Nothing in the model's output depends on a parameter or input that requires a gradient. "
        "Unfreeze a parameter, return the loss without detaching it, or pass labels to a model "
        "that computes its own loss."
    )


def _roots_of(loss: Loss, output: Any, tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    given = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    try:
        value = loss(output)
    except Exception as error:
        if "data" in str(error).lower() and "depend" in str(error).lower():
            return frozenset(given)  # it looks at numbers, which tells nothing of what it needs
        raise CaptureError(
            f"The loss fails on this model's output: {type(error).__name__}: {error}. Pass a "
            "callable that takes exactly what the model returns and gives a scalar tensor."
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise CaptureError(f"The loss gives {got}, not a scalar tensor; add .mean() or .sum().")
    grads: Sequence[Any] = ()
    if value.requires_grad and given:
        grads = torch.autograd.grad(value, [tensors[i] for i in given], allow_unused=True)
    roots = frozenset(i for i, grad in zip(given, grads) if grad is not None)
    if not roots:
        raise CaptureError(
            "The loss depends on no output of the model that has a gradient. Check that it uses "
            "the model's output and detaches nothing."
        )
    return roots


# -- the forward graph that is differentiated ----------------------------------------------------


@dataclass(frozen=True)
class StepGraph:
    """The traced forward with one placeholder per tensor and one result per output tensor."""

    graph_module: fx.GraphModule
    tensors: tuple[torch.Tensor, ...]
    kinds: tuple[SlotKind, ...]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls,
        traced: ForwardTrace,
        choice: TracedOutput,
        model: nn.Module,
        inputs: TracedInputs,
    ) -> StepGraph:
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
        outputs = []
        for i, source in enumerate(choice.sources):
            node = copied[results[source]] if isinstance(source, int) else place(source)
            if i not in choice.roots:
                node = graph.call_method("detach", (node,))
            # The copy keeps autograd's rules for outputs that alias one another, or an input, out
            # of the joint graph; `_strip_copies` removes it.
            outputs.append(graph.call_method("clone", (node,)))
        graph.output(tuple(outputs))
        ordered, kinds, names = _sort_slots(graph, places, tensors, model, inputs)
        module = fx.GraphModule(traced.graph_module, graph)
        return cls(module, tuple(ordered), tuple(kinds), tuple(names))


def _sort_slots(
    graph: fx.Graph,
    places: Mapping[int, fx.Node],
    tensors: Sequence[torch.Tensor],
    model: nn.Module,
    inputs: TracedInputs,
) -> tuple[list[torch.Tensor], list[SlotKind], list[tuple[str, ...]]]:
    """Parameters and buffers in the model's order, constants, then inputs in the caller's order;
    the placeholders of the graph are put in this order.
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
