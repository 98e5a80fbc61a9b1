"""The joint graph that inductor partitions, as a step to plan, and the two halves of a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from pebble.budget import Footprint
from pebble.errors import PlanMismatch
from pebble.measure.costs import loop_costs
from pebble.measure.step import measure
from pebble.measure.workspaces import measure_workspaces
from pebble.options import StepOptions
from pebble.runtime.split_graphs import split
from pebble.schedule import Schedule
from pebble.tracing import Captured
from pebble.tracing.compiled_joint import capture_joint, put_writes_back
from pebble.tracing.fused_groups import is_fusible, is_pointwise
from pebble.tracing.torch_private.inductor import NotCompiled, compile_graph, keep_in_memory

_STORED = "pebble_stored"


@dataclass(frozen=True)
class FusedStep:
    """A graph of dynamo with its inputs, and the joint graph that inductor makes of it.

    Attributes
    ----------
    module : fx.GraphModule
        As dynamo gave it, with sizes that are numbers.
    inputs : tuple
        Real tensors.
    captured : Captured
        Its joint graph after inductor's passes; what is computed inside of kernels is no value.
    footprint : Footprint
        With the costs and bytes of fused kernels.
    """

    module: fx.GraphModule = field(repr=False)
    inputs: tuple[Any, ...] = field(repr=False)
    captured: Captured = field(repr=False)
    footprint: Footprint

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.captured.device

    def key(self, schedule: Schedule) -> str:
        """Hash of what is computed and of the plan for it: inductor's cache is asked with it."""
        parts = [self.captured.graph.fingerprint, list(schedule.order)]
        return "pebble-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def compiled(self, schedule: Schedule) -> Callable[..., Any]:
        """What inductor makes of the step by a schedule.

        Raises
        ------
        PlanMismatch
            If inductor comes with another joint graph than before.
        """

        def partition(
            joint: fx.GraphModule, joint_inputs: Any, *, num_fwd_outputs: int, **_: Any
        ) -> tuple[fx.GraphModule, fx.GraphModule]:
            captured = _captured(joint, joint_inputs, num_fwd_outputs, self.inputs)
            if captured.graph.fingerprint != self.captured.graph.fingerprint:
                raise PlanMismatch(
                    "Inductor traced another joint graph than the one that was planned. Compile "
                    "again; report it with the model if it stays so."
                )
            return halves(captured, schedule, num_fwd_outputs)

        return compile_graph(self.module, self.inputs, partition, self.key(schedule))


def see_step(
    module: fx.GraphModule, inputs: Sequence[Any], options: StepOptions
) -> FusedStep | Callable[..., Any]:
    """The step that inductor would compile; what it compiles where nothing is differentiated.

    Parameters
    ----------
    module : fx.GraphModule
        As dynamo gives it, with sizes that are numbers.
    inputs : sequence
        Real tensors.
    options : StepOptions

    Raises
    ------
    CaptureError
    """
    seen: list[Captured] = []

    def partition(
        joint: fx.GraphModule, joint_inputs: Any, *, num_fwd_outputs: int, **_: Any
    ) -> tuple[fx.GraphModule, fx.GraphModule]:
        seen.append(_captured(joint, joint_inputs, num_fwd_outputs, inputs))
        raise NotCompiled

    try:
        return compile_graph(module, inputs, partition, None)
    except NotCompiled:
        return FusedStep(module, tuple(inputs), seen[0], fused_footprint(seen[0], options))


def fused_footprint(captured: Captured, options: StepOptions) -> Footprint:
    """What a step needs whose loops are fused: their temporaries are none, their cost is traffic.

    Parameters
    ----------
    captured : Captured
        Of the graph that the compiler partitions, with `fused=True`.
    """
    loops = frozenset(
        i for i, nodes in enumerate(captured.op_nodes) if nodes and is_fusible(nodes[0])
    )
    known = measure_workspaces(captured, loops=loops)
    measures = measure(captured, options, known=known)
    graph = measures.graph
    if isinstance(options.costs, str):
        costs = loop_costs(captured, loops, options.costs)
        graph = graph.with_measures(costs=[costs.get(i, op.cost) for i, op in enumerate(graph.ops)])
    return Footprint(graph, measures.resident)


def halves(
    captured: Captured, schedule: Schedule, n_outputs: int
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The forward and the backward graph of a schedule, as inductor takes them.

    What the plan counts as stored is kept from being computed again in each reader.
    """
    for nodes in captured.op_nodes:
        if nodes and is_pointwise(nodes[0]):
            nodes[0].meta[_STORED] = True
    # The runtime checks that what is saved does not change: statistics that it overwrites after
    # the forward are saved as copies.
    made = split(captured, schedule, copy_idle=True)
    put_writes_back(made.forward, captured, n_outputs)
    for half in (made.forward, made.backward):
        for node in list(half.graph.nodes):
            if node.op == "call_function" and node.meta.pop(_STORED, False) and node.users:
                keep_in_memory(half.graph, node)
        half.recompile()
    return made.forward, made.backward


def _captured(
    joint: fx.GraphModule, joint_inputs: Any, n_outputs: int, inputs: Sequence[Any]
) -> Captured:
    joint.graph.eliminate_dead_code()
    primals = joint_inputs[0]
    same = len(primals) == len(inputs)
    static = frozenset(i for i, a in enumerate(inputs) if same and isinstance(a, nn.Parameter))
    return capture_joint(joint, len(primals), n_outputs, static, fused=True)


def with_fixed_sizes(module: fx.GraphModule, inputs: Sequence[Any]) -> fx.GraphModule:
    """The graph with numbers in the places of the sizes that it is given.

    Its inputs are those of the graph that are tensors.
    """
    copy = fx.Graph()
    places: dict[fx.Node, Any] = {}
    given = iter(inputs)
    for node in module.graph.nodes:
        value = next(given) if node.op == "placeholder" else None
        if node.op == "placeholder" and not isinstance(value, torch.Tensor):
            places[node] = value
        elif node.op == "output":
            copy.output(fx.map_arg(node.args[0], places.__getitem__))
        else:
            places[node] = copy.node_copy(node, places.__getitem__)
    return fx.GraphModule(module, copy)
