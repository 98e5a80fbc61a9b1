"""A joint graph in the form that the Graph is made from: every node an op or view of the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.tracing.call_writer import CallWriter
from pebble.tracing.forward_graph import ForwardGraph
from pebble.tracing.signature import Output, OutputKind, Slot, SlotKind, results_of
from pebble.tracing.sparse_gradients import SparseGradient
from pebble.tracing.torch_private.joint_export import EndKind, JointTrace
from pebble.tracing.torch_private.storages import storage_id
from pebble.tracing.traced_output import TracedOutput


class JointCleanup:
    """Reads what a joint graph is given and hands over, and rewrites it to hold nothing else.

    Parameters
    ----------
    forward : ForwardGraph
        What was differentiated.
    joint : JointTrace
        Its graph is changed in place.
    output : TracedOutput
    rows : mapping of int to SparseGradient
        The outputs of the graph that are rows of a sparse gradient.
    """

    def __init__(
        self,
        forward: ForwardGraph,
        joint: JointTrace,
        output: TracedOutput,
        rows: Mapping[int, SparseGradient],
    ) -> None:
        self.forward = forward
        self.output = output
        self.module = joint.graph_module
        self.graph = joint.graph_module.graph
        self.joint = joint
        self.rows = rows
        self.slots: list[Slot] = []
        self.tangents: list[Slot] = []
        self.outputs: list[Output] = []
        self.gradients: dict[fx.Node, fx.Node | None] = {}
        self.sparse: dict[fx.Node, SparseGradient] = {}
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

    # -- steps of tidying ----------------------------------------------------------------------

    def _read_inputs(self) -> None:
        placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        for node, end in zip(placeholders, self.joint.inputs):
            if end is None:
                raise CaptureError(
                    "The forward writes to a tensor that gets a gradient (a parameter, under "
                    "torch.no_grad), takes a tensor subclass, or writes to one of two inputs that "
                    "are views of one another. Write to parameters outside of the forward, and to "
                    "copies of inputs."
                )
            what, i = end
            if what is EndKind.TANGENT:
                self.tangents.append(Slot(SlotKind.TANGENT, self.output.names[i], node))
                continue
            self.nodes[i] = node
            kind = self.forward.kinds[i]
            if kind is not SlotKind.CONSTANT:
                name, *aliases = self.forward.names[i]
                self.slots.append(Slot(kind, name, node, tuple(aliases)))
                if self.forward.tensors[i].requires_grad:
                    self.gradients[node] = None

    def _strip_copies(self) -> None:
        output = self.graph.output_node()
        results = results_of(self.graph)
        for k, (node, end) in enumerate(zip(results, self.joint.outputs)):
            copied = end is not None and end[0] is EndKind.RESULT and isinstance(node, fx.Node)
            if copied and node.target is torch.ops.aten.clone.default:
                results[k] = node.args[0]
        output.args = (results,)
        self.graph.eliminate_dead_code()

    def _read_outputs(self) -> None:
        results = results_of(self.graph)
        for node, end in zip(results, self.joint.outputs):
            if end is None:
                raise CaptureError(
                    "The forward changes the shape or strides of one of its inputs in place "
                    "(resize_, t_, squeeze_ ...). Use the form that returns a new tensor."
                )
            what, i = end
            if what is EndKind.RESULT:
                self.outputs.append(Output(self.output.kinds[i], self.output.names[i], node))
            elif what is EndKind.UPDATE:
                self.outputs.append(self._update(i, node))
            elif what is EndKind.GRADIENT and self.nodes[i] in self.gradients:
                self.gradients[self.nodes[i]] = node
        if not any(node is not None for node in self.gradients.values()):
            raise CaptureError(
                "No parameter and no input of the model gets a gradient from the loss. Unfreeze a "
                "parameter, or return a loss that depends on one."
            )

    def _update(self, i: int, node: fx.Node) -> Output:
        kind, names = self.forward.kinds[i], self.forward.names[i]
        if kind is SlotKind.CONSTANT:
            raise CaptureError(
                f"The forward writes to a tensor of shape {list(self.forward.tensors[i].shape)} "
                "that is no buffer of the model. Register it with register_buffer, or write to a "
                "copy."
            )
        update = OutputKind.INPUT_UPDATE if kind is SlotKind.INPUT else OutputKind.BUFFER_UPDATE
        return Output(update, names[0], node)

    def _own_gradients(self) -> None:
        """Give each gradient a storage of its own, laid out as autograd accumulates it.

        A gradient that shares its storage or is an expanded view would be copied by autograd
        outside of the graph, unseen by any plan.
        """
        outside = [n.meta["val"] for n in self.graph.nodes if n.op in ("placeholder", "get_attr")]
        outside += [output.node.meta["val"] for output in self.outputs]
        taken = {storage_id(tensor) for tensor in outside}
        shared = Counter(
            storage_id(g.meta["val"]) for g in self.gradients.values() if g is not None
        )
        output = self.graph.output_node()
        results = results_of(self.graph)
        for k, end in enumerate(self.joint.outputs):
            gradient = results[k]
            if end is None or end[0] is not EndKind.GRADIENT or gradient is None:
                continue
            slot, value = self.nodes[end[1]], gradient.meta["val"]
            key = storage_id(value)
            alone = shared[key] == 1 or _covers_storage(value)
            rows = self.rows.get(k)
            like = slot.meta["val"] if rows is None else None
            if not (key not in taken and alone and _fits(value, like)):
                after = gradient if gradient.op == "call_function" else output.prev
                results[k] = self._clone(gradient, after, like)
                self.gradients[slot] = results[k]
                if rows is not None:  # autograd copies both
                    rows = replace(rows, indices=self._clone(rows.indices, output.prev, None))
                    results.append(rows.indices)
            else:
                taken.add(key)
            if rows is not None:
                self.sparse[slot] = rows
        output.args = (results,)

    def _clone(self, node: fx.Node, after: fx.Node, like: torch.Tensor | None) -> fx.Node:
        layout = torch.contiguous_format
        picture = like if like is not None and like.dim() == 4 else None
        if picture is not None and picture.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        writer = CallWriter(self.graph, node.meta["val"].fake_mode)
        with self.graph.inserting_after(after):
            return writer.call(torch.ops.aten.clone.default, node, memory_format=layout)

    def _constants(self) -> None:
        """Constants of the model become attributes of the joint graph, one slot each."""
        places: dict[str, int | None] = {}
        for i, kind in enumerate(self.forward.kinds):
            if kind is not SlotKind.CONSTANT:
                continue
            node = self.nodes[i]
            name = f"_constant_{i}"
            places[name] = self.forward.places[i]
            setattr(self.module, name, self.forward.tensors[i])
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
                name = str(node.target)
                self.slots.append(Slot(SlotKind.CONSTANT, name, node, place=places.get(name)))


def _covers_storage(tensor: torch.Tensor) -> bool:
    return tensor.numel() * tensor.itemsize == tensor.untyped_storage().nbytes()


def _fits(gradient: torch.Tensor, parameter: torch.Tensor | None) -> bool:
    """Whether autograd takes the gradient as it is; else it makes a copy of another layout.

    None: rows of a sparse gradient.
    """
    if parameter is None:
        return gradient.is_contiguous()
    return all(
        size < 2 or a == b
        for size, a, b in zip(parameter.shape, parameter.stride(), gradient.stride())
    )
