"""`capture`: a model and its inputs become a joint graph, a pebble Graph, and the map between."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from pebble.compat import (
    End,
    Joint,
    Trace,
    explain,
    fake_mode_of,
    quiet_capture,
    trace_forward,
    trace_joint,
)
from pebble.errors import CaptureError, InvalidArgument, PebbleError
from pebble.graph import Graph
from pebble.joint import Ends, storage_of, wire
from pebble.outputs import leaves, put_together, take_apart

logger = logging.getLogger("pebble")

Loss = Callable[[Any], torch.Tensor]


class SlotKind(StrEnum):
    """Where the tensor of a slot comes from."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    INPUT = "input"
    CONSTANT = "constant"
    TANGENT = "tangent"


class OutputKind(StrEnum):
    """What becomes of a forward output."""

    DIFFERENTIABLE = "differentiable"
    PLAIN = "plain"
    BUFFER_UPDATE = "buffer_update"
    INPUT_UPDATE = "input_update"


@dataclass(frozen=True)
class Slot:
    """A tensor that the joint graph is given.

    Attributes
    ----------
    kind : SlotKind
    name : str
        Name of the parameter or buffer in the model, or path of the input, such as ``args[0]``.
    node : fx.Node
        A placeholder; a ``get_attr`` node for a constant.
    aliases : tuple of str
        Other names of the same tensor (tied weights).
    """

    kind: SlotKind
    name: str
    node: fx.Node
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A forward output of the joint graph: `name` is its path in the model's output, or the name
    of the slot whose contents it replaces."""

    kind: OutputKind
    name: str
    node: fx.Node


@dataclass(frozen=True)
class State:
    """What a capture depends on besides shapes.

    Attributes
    ----------
    training : mapping of str to bool
        Mode of every module, by name; the model itself is ``""``.
    autocast : tuple of (device type, enabled, dtype)
    constants : mapping of str to object
        Inputs that are no tensors, by path: they are part of the graph.
    """

    training: Mapping[str, bool]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    constants: Mapping[str, Any]


@dataclass(frozen=True)
class Captured:
    """A training step as a graph, and the way back to the model.

    Attributes
    ----------
    joint : fx.GraphModule
        Functional aten graph, forward and backward, static shapes. Not to be changed.
    graph : Graph
        Costs 1 and workspaces 0, to be measured.
    op_nodes : tuple of tuple of fx.Node
        Op index -> the nodes it executes: the computing node, then its getitems. Empty for the
        boundary op, which stands for the user's loss.
    value_of : mapping
        Every node that is a tensor -> the index of its storage's value.
    views : frozenset of fx.Node
        Nodes that make a view of an existing storage; they belong to no op.
    value_source : tuple of fx.Node
        Value index -> the node that first makes the storage or brings it in.
    slots : tuple of Slot
        Parameters, buffers and inputs in the order of the placeholders, then constants.
    outputs : tuple of Output
    gradients : mapping
        Node of every slot that requires a gradient -> its gradient's node, None without one.
    tangents : tuple of Slot
        One per differentiable output, in their order.
    template : object
        Skeleton of the model's output; see `rebuild`.
    state : State
    loss : callable or None
    fake : bool
        Whether the model or its inputs have no data.
    device : str
    """

    joint: fx.GraphModule = field(repr=False)
    graph: Graph
    op_nodes: tuple[tuple[fx.Node, ...], ...] = field(repr=False)
    value_of: Mapping[fx.Node, int] = field(repr=False)
    views: frozenset[fx.Node] = field(repr=False)
    value_source: tuple[fx.Node, ...] = field(repr=False)
    slots: tuple[Slot, ...] = field(repr=False)
    outputs: tuple[Output, ...] = field(repr=False)
    gradients: Mapping[fx.Node, fx.Node | None] = field(repr=False)
    tangents: tuple[Slot, ...] = field(repr=False)
    template: Any = field(repr=False)
    state: State = field(repr=False)
    loss: Loss | None
    fake: bool
    device: str

    def rebuild(self, tensors: Sequence[Any]) -> Any:
        """The object that the model returns, from its tensors.

        Parameters
        ----------
        tensors : sequence
            One per differentiable and plain output, in the order of `outputs`.
        """
        return put_together(self.template, tensors)


def capture(
    model: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: Loss | None = None,
) -> Captured:
    """Trace one training step of a model; nothing is computed and nothing of the model changes.

    Parameters
    ----------
    model : nn.Module, fx.GraphModule or ExportedProgram
        In the mode it trains in, under the autocast it trains under. Real or fake tensors.
    args, kwargs
        Inputs of the forward, of the shapes to be trained on.
    loss : callable, optional
        From the model's output to a scalar. By default the output's ``.loss``, else the first
        tensor of the output that needs a gradient: itself if it is a scalar, else its sum.
        Every other tensor of the output is detached.

    Returns
    -------
    Captured

    Raises
    ------
    CaptureError
        If the forward is not one graph of fixed shapes, or nothing in it can be differentiated.
    InvalidArgument
        If the model is none.

    Notes
    -----
    A Hugging Face model whose configuration says ``use_cache`` is captured without its cache,
    which training does not need, unless `kwargs` say otherwise.

    Examples
    --------
    >>> import torch
    >>> captured = capture(torch.nn.Linear(4, 2), (torch.ones(3, 4),))
    >>> [slot.name for slot in captured.slots], captured.graph.boundary
    (['weight', 'bias', 'args[0]'], 1)
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            f"The model is a {type(model).__name__}; pass a torch.nn.Module, a "
            "torch.fx.GraphModule or a torch.export.ExportedProgram."
        )
    named = dict(kwargs or {})
    if _has_idle_cache(model, named):
        named["use_cache"] = False
    inputs = _Inputs.of(model, tuple(args), named)
    with quiet_capture():
        traced = _attempt(
            "forward", model, lambda: trace_forward(model, inputs.args, inputs.kwargs)
        )
        _check_side_effects(traced, model)
        chosen = _attempt("loss", model, lambda: _choose(traced, loss))
        step = _StepGraph.of(traced, chosen, model, inputs)
        joint = _attempt(
            "backward",
            model,
            lambda: trace_joint(step.graph_module, step.tensors, traced.fake_mode),
        )
        return _finish(model, inputs, step, joint, chosen, loss)


def _attempt(what: str, model: nn.Module, trace: Callable[[], Any]) -> Any:
    try:
        return trace()
    except PebbleError:
        raise
    except Exception as error:
        reason, where = explain(error)
        place = f" at {where}" if where else ""
        raise CaptureError(
            f"The {what} of {type(model).__name__} cannot be traced into one graph{place}: "
            f"{reason}. {_advice(model)}"
        ) from error


def _check_side_effects(traced: Trace, model: nn.Module) -> None:
    if any("._buffers" in place or "._parameters" in place for place in traced.side_effects):
        raise CaptureError(
            f"The forward of {type(model).__name__} assigns a new tensor to a buffer or parameter, "
            "which a traced step cannot repeat. Write into the tensor instead: "
            "self.buffer.copy_(new) in place of self.buffer = new."
        )
    if traced.side_effects:
        logger.warning(
            "The forward of %s changes Python state (%s), which a planned step does not.",
            type(model).__name__,
            ", ".join(traced.side_effects),
        )


def _advice(model: nn.Module) -> str:
    if any(isinstance(m, nn.RNNBase) for m in model.modules()):
        return (
            "torch does not trace nn.RNN, nn.LSTM and nn.GRU; write the recurrence with "
            "nn.LSTMCell or nn.GRUCell, or plan the rest of the model."
        )
    if any(getattr(m, "gradient_checkpointing", False) is True for m in model.modules()):
        return (
            "Switch the model's own gradient checkpointing off first "
            "(model.gradient_checkpointing_disable()): pebble decides what is recomputed."
        )
    return (
        "Make this line free of data-dependent Python (torch.where for if, fixed shapes, no "
        ".item()), or plan the part of the model without it."
    )


def _has_idle_cache(model: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    config = getattr(model, "config", None)
    if "use_cache" in kwargs or getattr(config, "use_cache", None) is not True:
        return False
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "use_cache" in inspect.signature(inner.forward).parameters


# -- inputs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """The inputs, every tensor leaf an object of its own."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    paths: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    constants: dict[str, Any]
    fake: bool

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Inputs:
        found, spec = pytree.tree_flatten_with_path((args, kwargs))
        held = [*model.parameters(), *model.buffers()]
        mode = fake_mode_of([*held, *(leaf for _, leaf in found)])
        seen = {id(tensor) for tensor in held}
        made: list[Any] = []
        paths: list[str] = []
        constants: dict[str, Any] = {}
        for path, leaf in found:
            name = ("args", "kwargs")[path[0].idx] + pytree.keystr(path[1:])
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
        args, kwargs = pytree.tree_unflatten(made, spec)
        tensors = tuple(leaf for leaf in made if isinstance(leaf, torch.Tensor))
        return cls(args, kwargs, tuple(paths), tensors, constants, mode is not None)


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


# -- what is differentiated ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
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


def _choose(traced: Trace, loss: Loss | None) -> _Choice:
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
    return _Choice(
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
class _StepGraph:
    """The traced forward with one placeholder per tensor and one result per output tensor."""

    graph_module: fx.GraphModule
    tensors: tuple[torch.Tensor, ...]
    kinds: tuple[SlotKind, ...]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, traced: Trace, choice: _Choice, model: nn.Module, inputs: _Inputs) -> _StepGraph:
        graph = fx.Graph()
        graph.graph_copy(traced.graph_module.graph, copied := {})
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
        results = traced.graph_module.graph.output_node().args[0]
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
    inputs: _Inputs,
) -> tuple[list[torch.Tensor], list[SlotKind], list[tuple[str, ...]]]:
    """Parameters and buffers in the model's order, constants, then inputs in the caller's order;
    the placeholders of the graph are put in this order."""
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
    head = graph._root
    for tensor in reversed(ordered):
        head.append(places[id(tensor)])
    kinds = [known[id(t)][0] if id(t) in known else SlotKind.CONSTANT for t in ordered]
    names = [tuple(known[id(t)][1]) if id(t) in known else () for t in ordered]
    return ordered, kinds, names


# -- the joint graph -----------------------------------------------------------------------------


def _finish(
    model: nn.Module,
    inputs: _Inputs,
    step: _StepGraph,
    joint: Joint,
    choice: _Choice,
    loss: Loss | None,
) -> Captured:
    ends = _Reader(step, joint, choice)
    ends.tidy()
    parts = wire(ends.module, ends.ends(), name=type(model).__name__)
    device = next((str(t.device) for t in step.tensors), "cpu")
    return Captured(
        joint=ends.module,
        graph=parts.graph,
        op_nodes=parts.op_nodes,
        value_of=parts.value_of,
        views=parts.views,
        value_source=parts.value_source,
        slots=tuple(ends.slots),
        outputs=tuple(ends.outputs),
        gradients=ends.gradients,
        tangents=tuple(ends.tangents),
        template=choice.template,
        state=State(
            {name: module.training for name, module in model.named_modules()},
            _autocast(device),
            inputs.constants,
        ),
        loss=loss,
        fake=inputs.fake,
        device=device,
    )


def _autocast(device: str) -> tuple[tuple[str, bool, torch.dtype], ...]:
    kinds = dict.fromkeys(("cpu", torch.device(device).type))
    return tuple((k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds)


class _Reader:
    """Reads the ends of a joint graph and puts them into pebble's form."""

    def __init__(self, step: _StepGraph, joint: Joint, choice: _Choice) -> None:
        self.step = step
        self.choice = choice
        self.module = joint.graph_module
        self.graph = joint.graph_module.graph
        self.joint = joint
        self.slots: list[Slot] = []
        self.tangents: list[Slot] = []
        self.outputs: list[Output] = []
        self.gradients: dict[fx.Node, fx.Node | None] = {}
        self.nodes: dict[int, fx.Node] = {}

    def tidy(self) -> None:
        """Rewrite the graph until every node of it is an op or view of the step."""
        self._read_inputs()
        self._strip_copies()
        self._read_outputs()
        for node in list(self.graph.nodes):
            if "_assert_tensor_metadata" in str(node.target):
                self.graph.erase_node(node)  # shapes and dtypes are what the plan is for
        self._own_gradients()
        self.graph.eliminate_dead_code()
        self._constants()
        self.graph.lint()
        self.module.recompile()

    def ends(self) -> Ends:
        """The ends of the tidied graph."""
        held = (OutputKind.DIFFERENTIABLE, OutputKind.PLAIN)
        updated = {o.name for o in self.outputs if o.kind not in held}
        return Ends(
            inputs=tuple(slot.node for slot in self.slots),
            tangents=tuple(slot.node for slot in self.tangents),
            handed=tuple(output.node for output in self.outputs),
            kept=frozenset(output.node for output in self.outputs if output.kind in held),
            gradients=tuple(g for g in self.gradients.values() if g is not None),
            overwritten=frozenset(s.node for s in self.slots if s.name in updated),
        )

    # -- steps of tidying ----------------------------------------------------------------------

    def _read_inputs(self) -> None:
        placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        for node, end in zip(placeholders, self.joint.inputs):
            if end is None:
                raise CaptureError(
                    f"The traced step takes {node.meta.get('desc')}, which pebble does not know: "
                    "tensor subclasses and inputs that are views of one another and written to "
                    "cannot be planned. Pass plain tensors."
                )
            what, i = end
            if what is End.TANGENT:
                self.tangents.append(Slot(SlotKind.TANGENT, self.choice.names[i], node))
                continue
            self.nodes[i] = node
            kind = self.step.kinds[i]
            if kind is not SlotKind.CONSTANT:
                name, *aliases = self.step.names[i]
                self.slots.append(Slot(kind, name, node, tuple(aliases)))
                if self.step.tensors[i].requires_grad:
                    self.gradients[node] = None

    def _strip_copies(self) -> None:
        output = self.graph.output_node()
        results = list(output.args[0])
        for k, (node, end) in enumerate(zip(results, self.joint.outputs)):
            copied = end is not None and end[0] is End.RESULT and isinstance(node, fx.Node)
            if copied and node.target is torch.ops.aten.clone.default:
                results[k] = node.args[0]
        output.args = (results,)
        self.graph.eliminate_dead_code()

    def _read_outputs(self) -> None:
        results = list(self.graph.output_node().args[0])
        differentiated = {slot.name for slot in self.tangents}
        user: dict[int, Output] = {}
        for node, end in zip(results, self.joint.outputs):
            if end is None:
                raise CaptureError(
                    "The forward changes the shape or strides of one of its inputs in place "
                    "(resize_, t_, squeeze_ ...). Use the form that returns a new tensor."
                )
            what, i = end
            if what is End.RESULT:
                name = self.choice.names[i]
                root = name in differentiated
                user[i] = Output(
                    OutputKind.DIFFERENTIABLE if root else OutputKind.PLAIN, name, node
                )
                self.outputs.append(user[i])
            elif what is End.UPDATE:
                self.outputs.append(self._update(i, node))
            elif what is End.GRADIENT and self.nodes[i] in self.gradients:
                self.gradients[self.nodes[i]] = node
        if not any(node is not None for node in self.gradients.values()):
            raise CaptureError(
                "No parameter and no input of the model gets a gradient from the loss. Unfreeze a "
                "parameter, or return a loss that depends on one."
            )

    def _update(self, i: int, node: fx.Node) -> Output:
        kind, names = self.step.kinds[i], self.step.names[i]
        if kind is SlotKind.CONSTANT:
            raise CaptureError(
                f"The forward writes to a tensor of shape {list(self.step.tensors[i].shape)} that "
                "is no buffer of the model. Register it with register_buffer, or write to a copy."
            )
        update = OutputKind.INPUT_UPDATE if kind is SlotKind.INPUT else OutputKind.BUFFER_UPDATE
        return Output(update, names[0], node)

    def _own_gradients(self) -> None:
        """Give each gradient a storage of its own, laid out as autograd accumulates it.

        A gradient that shares its storage or is an expanded view would be copied by autograd
        outside of the graph, unseen by any plan.
        """
        taken = {storage_of(n.meta["val"]) for n in self.graph.nodes if n.op == "placeholder"}
        taken |= {storage_of(o.node.meta["val"]) for o in self.outputs}
        output = self.graph.output_node()
        results = list(output.args[0])
        for slot, gradient in list(self.gradients.items()):
            if gradient is None:
                continue
            value = gradient.meta["val"]
            if storage_of(value) not in taken and _fits(value, slot.meta["val"]):
                taken.add(storage_of(value))
                continue
            copy = self._clone(gradient, output, slot.meta["val"])
            k = next(
                k
                for k, end in enumerate(self.joint.outputs)
                if end is not None and end[0] is End.GRADIENT and self.nodes[end[1]] is slot
            )
            results[k] = self.gradients[slot] = copy
            taken.add(storage_of(copy.meta["val"]))
        output.args = (results,)

    def _clone(self, node: fx.Node, before: fx.Node, like: torch.Tensor) -> fx.Node:
        layout = torch.contiguous_format
        if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        with self.graph.inserting_before(before):
            copy = self.graph.call_function(
                torch.ops.aten.clone.default, (node,), {"memory_format": layout}
            )
        with node.meta["val"].fake_mode:
            copy.meta["val"] = torch.ops.aten.clone.default(node.meta["val"], memory_format=layout)
        return copy

    def _constants(self) -> None:
        """Constants of the model become attributes of the joint graph, one slot each."""
        for i, kind in enumerate(self.step.kinds):
            if kind is not SlotKind.CONSTANT:
                continue
            node = self.nodes[i]
            name = f"_constant_{i}"
            setattr(self.module, name, self.step.tensors[i])
            with self.graph.inserting_before(node):
                held = self.graph.get_attr(name)
            held.meta = dict(node.meta)
            node.replace_all_uses_with(held)
            self.graph.erase_node(node)
        first: dict[str, fx.Node] = {}
        for node in list(self.graph.nodes):
            if node.op != "get_attr":
                continue
            kept = first.setdefault(str(node.target), node)
            if kept is not node:
                node.replace_all_uses_with(kept)
                self.graph.erase_node(node)
            elif isinstance(node.meta.get("val"), torch.Tensor):
                self.slots.append(Slot(SlotKind.CONSTANT, str(node.target), node))


def _fits(gradient: torch.Tensor, parameter: torch.Tensor) -> bool:
    """Whether autograd takes the gradient as it is; else it makes a copy of another layout."""
    return parameter.is_contiguous() == gradient.is_contiguous() or all(
        size < 2 or a == b
        for size, a, b in zip(parameter.shape, parameter.stride(), gradient.stride())
    )
