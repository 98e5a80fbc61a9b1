"""`torch.compile(model, backend="pebble", options={"budget_gb": 15})`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError, InfeasibleBudget, InvalidArgument
from pebble.measure.costs import op_costs
from pebble.measure.memory import StepMemory, step_memory
from pebble.measure.workspaces import measure_workspaces
from pebble.plan.optimization import whole_budget
from pebble.plan.report import gigabytes
from pebble.problem import Problem
from pebble.runtime.boxed_code import compile_boxed
from pebble.runtime.split_graphs import split
from pebble.solver import Result, get_solver, solve
from pebble.tracing import Captured, Output, OutputKind, Slot, SlotKind, State
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.signature import StepSignature
from pebble.tracing.torch_private.compiler_back_end import autograd_back_end, mark_boxed
from pebble.tracing.torch_private.fake_tensors import outside_fake_mode

logger = logging.getLogger("pebble")

_HOW = (
    'Call torch.compile(model, backend="pebble", options={"budget_gb": 15}): the budget counts '
    "parameters, gradients, buffers, inputs and activations of the whole step."
)


def pebble_backend(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> Callable[..., Any]:
    """The backend: AOT autograd with a partition that follows a pebble schedule.

    Parameters
    ----------
    graph_module, example_inputs
        From dynamo.
    options, **settings
        ``budget_gb`` or ``budget_bytes`` (required), ``optimizer`` (a name: its state is counted),
        ``solver``, ``time_limit`` (seconds), ``seed``, ``costs``; others go to the solver.

    Returns
    -------
    callable

    Raises
    ------
    InvalidArgument
        If there is no budget.
    InfeasibleBudget
        When the first training call is compiled and no plan fits.

    Notes
    -----
    The forward and backward graphs execute the schedule op by op, without fusing kernels. What
    the compiled runtime itself keeps (outputs, tangents, gradients until the end) is in the plan;
    still the promise to the byte holds for `Plan.apply`, not here. After a graph break every
    graph is planned on its own, each with the whole budget.
    """
    settings = dict(options or {}) | settings
    try:
        budget = whole_budget(settings.pop("budget_gb", None), settings.pop("budget_bytes", None))
    except InvalidArgument as error:
        raise InvalidArgument(f"{error} {_HOW}") from None
    get_solver(settings.get("solver", "auto"))
    compiler = autograd_back_end(
        fw_compiler=_compile,
        bw_compiler=_compile,
        partition_fn=functools.partial(_partition, budget=budget, settings=settings),
    )
    return compiler(graph_module, example_inputs)


def _compile(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    return mark_boxed(compile_boxed(module))


def _partition(
    joint: fx.GraphModule,
    joint_inputs: Any,
    *,
    num_fwd_outputs: int,
    static_lifetime_input_indices: Sequence[int] | None = None,
    budget: int,
    settings: dict[str, Any],
    **_: Any,
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Forward and backward graph of a joint graph, by a schedule that fits the budget.

    Parameters
    ----------
    joint : fx.GraphModule
    joint_inputs : (primals, tangents)
    num_fwd_outputs : int
        Outputs of the joint graph before this index belong to the forward.
    static_lifetime_input_indices : sequence of int, optional
        Primals that are parameters or buffers.
    """
    joint.graph.eliminate_dead_code()
    static = frozenset(static_lifetime_input_indices or ())
    captured = capture_joint(joint, len(joint_inputs[0]), num_fwd_outputs, static)
    options = dict(settings)
    memory = step_memory(captured, optimizer=options.pop("optimizer", None))
    with outside_fake_mode():
        graph = captured.graph.with_measures(
            costs=op_costs(captured, options.pop("costs", "auto")),
            workspaces=measure_workspaces(captured).bytes,
        )
    room = budget - memory.resident
    result = solve(
        Problem(graph, max(room, 0)),
        options.pop("solver", "auto"),
        time_limit=options.pop("time_limit", 60.0),
        seed=options.pop("seed", 0),
        **options,
    )
    fits = room >= 0 and memory.optimizer_step_peak <= budget
    if result.schedule is None or result.trace is None or not fits:
        raise _infeasible(budget, memory, result)
    logger.info(
        "Planned %d ops within %s: peak %s, %d steps, %s.",
        len(graph.ops),
        gigabytes(budget),
        gigabytes(memory.whole_step_peak(result.trace.peak)),
        len(result.schedule),
        result.status,
    )
    # The runtime checks that what is saved does not change: statistics that it overwrites after
    # the forward are saved as copies.
    halves = split(captured, result.schedule, copy_idle=True)
    return halves.forward, halves.backward


def _infeasible(budget: int, memory: StepMemory, result: Result) -> InfeasibleBudget:
    bound = result.problem.working_set_bound
    closest = result.closest_peak
    needed = memory.whole_step_peak(bound if closest is None else closest)
    who = "any needs at least" if closest is None else "the closest needs"
    return InfeasibleBudget(
        f"No plan was found for this graph within {gigabytes(budget)}; {who} "
        f"{gigabytes(needed)}, of which "
        f"{gigabytes(memory.resident)} are parameters, buffers, inputs and optimizer state. Try a "
        "larger budget, a smaller batch or a longer time_limit.",
        budget_bytes=budget,
        least_bytes=needed,
    )


def capture_joint(
    joint: fx.GraphModule, n_primals: int, n_outputs: int, static: frozenset[int]
) -> Captured:
    """A joint graph of torch.compile as a captured step.

    Parameters
    ----------
    joint : fx.GraphModule
    n_primals : int
        So many placeholders come before the tangents.
    n_outputs : int
        So many outputs belong to the forward.
    static : frozenset of int
        Primals that are parameters or buffers.

    Raises
    ------
    CaptureError
        If sizes are symbolic, or the graph has ends that a schedule cannot place.
    """
    placeholders = [n for n in joint.graph.nodes if n.op == "placeholder"]
    primals, tangents = placeholders[:n_primals], placeholders[n_primals:]
    for node in placeholders:
        if not isinstance(node.meta.get("val"), torch.Tensor) or not _is_fixed(node.meta["val"]):
            raise CaptureError(
                f"Input {node.name!r} of the compiled graph has a symbolic size; a plan holds for "
                "fixed shapes. Compile with torch.compile(..., dynamic=False)."
            )
    results: list[Any] = list(joint.graph.output_node().args[0])  # type: ignore[arg-type]
    handed, gradients = results[:n_outputs], results[n_outputs:]
    if len(gradients) != n_primals or not all(isinstance(n, fx.Node) for n in handed):
        raise CaptureError(
            f"The compiled graph returns {len(gradients)} gradients for {n_primals} inputs and "
            f"{n_outputs} forward outputs; effect tokens and outputs that are no tensors cannot be "
            "planned. Use pebble.optimize and Plan.apply on the model instead."
        )
    constants = [n for n in joint.graph.nodes if n.op == "get_attr" and "val" in n.meta]
    slots = _slots(primals, gradients, static)
    slots += [Slot(SlotKind.CONSTANT, str(n.target), n) for n in constants]
    outputs = _outputs(joint, handed, primals, {n.meta.get("desc") for n in tangents})
    kept = {o.node for o in outputs if o.kind is not OutputKind.BUFFER_UPDATE}
    updated = {o.name for o in outputs if o.kind is OutputKind.BUFFER_UPDATE}
    signature = StepSignature(
        inputs=tuple(slot.node for slot in slots),
        tangents=tuple(tangents),
        handed=tuple(handed),
        kept=frozenset(kept),
        gradients=tuple(n for n in gradients if n is not None),
        overwritten=frozenset(s.node for s in slots if s.name in updated),
    )
    parts = build_graph(joint, signature, name="compiled")
    return Captured(
        joint=joint,
        graph=parts.graph,
        op_nodes=parts.op_nodes,
        value_of=parts.value_of,
        views=parts.views,
        value_source=parts.value_source,
        slots=tuple(slots),
        outputs=tuple(outputs),
        gradients=dict(zip(primals, gradients)),
        tangents=tuple(Slot(SlotKind.TANGENT, n.name, n) for n in tangents),
        template=None,
        state=State({}, (), {}),
        loss=None,
        fake=False,
        device=str(primals[0].meta["val"].device) if primals else "cpu",
    )


def _slots(
    primals: Sequence[fx.Node], gradients: Sequence[fx.Node | None], static: frozenset[int]
) -> list[Slot]:
    kinds = [
        SlotKind.INPUT
        if i not in static
        else (SlotKind.BUFFER if gradient is None else SlotKind.PARAMETER)
        for i, gradient in enumerate(gradients)
    ]
    return [Slot(kind, node.name, node) for kind, node in zip(kinds, primals)]


def _outputs(
    joint: fx.GraphModule,
    handed: Sequence[fx.Node],
    primals: Sequence[fx.Node],
    roots: set[Any],
) -> list[Output]:
    """What becomes of the forward outputs, as far as their descriptions tell."""
    described = joint.graph.output_node().meta.get("desc") or [None] * len(handed)
    by_desc = {node.meta.get("desc"): node.name for node in primals}
    differentiated = {getattr(root, "output", None) for root in roots}
    outputs = []
    for i, (node, desc) in enumerate(zip(handed, described)):
        name = by_desc.get(getattr(desc, "mutated_input", None)) if desc is not None else None
        if name is not None:
            outputs.append(Output(OutputKind.BUFFER_UPDATE, name, node))
            continue
        root = desc is None or desc in differentiated
        kind = OutputKind.DIFFERENTIABLE if root else OutputKind.PLAIN
        outputs.append(Output(kind, f"output[{i}]", node))
    return outputs


def _is_fixed(tensor: torch.Tensor) -> bool:
    return all(isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))
