"""`torch.compile(model, backend="pebble", options={"budget_gb": 15})`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from pebble.arguments import one_of
from pebble.budget import Footprint, whole_budget
from pebble.deadline import Deadline
from pebble.errors import InvalidArgument
from pebble.formatting import gigabytes
from pebble.measure.step import measure
from pebble.options import SearchOptions, StepOptions
from pebble.plan.fused.fused_call import FusedAsked, FusedCall
from pebble.plan.fused.rounds import FusedReport
from pebble.plan.fused.shared_budget import SharedBudget
from pebble.plan.infeasible import infeasible_budget
from pebble.plan.search import PlanSearch
from pebble.runtime.boxed_code import compile_boxed
from pebble.runtime.split_graphs import split
from pebble.tracing.compiled_joint import capture_joint
from pebble.tracing.torch_private.compiler_back_end import autograd_back_end, mark_boxed
from pebble.tracing.torch_private.fake_tensors import outside_fake_mode

logger = logging.getLogger("pebble")

INDUCTOR = "inductor"
INNER = ("ops", INDUCTOR)
_STEP = ("optimizer", "costs")  # the options of a step that are left when it is traced already
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
        ``solver``, ``time_limit`` (seconds), ``seed``, ``costs``; ``inner``: what runs inside,
        "ops" or "inductor"; ``on_report``: a function that is given the `FusedReport` of every
        plan with inductor inside. Others go to the solver.

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
    With ``inner="inductor"`` the plan says what is saved and what runs again, in which order, and
    inductor fuses the rest. The first call plans, compiles and measures its own forward and
    backward, and corrects the plan, in at most three rounds: it raises `InfeasibleBudget` if no
    measured peak is within the budget. Graphs after a graph break share the budget.

    Otherwise the forward and backward graphs execute the schedule op by op, without fusing
    kernels. What the compiled runtime itself keeps (outputs, tangents, gradients until the end) is
    in the plan; still the promise to the byte holds for `Plan.apply`, not here. After a graph break
    every graph is planned on its own, each with the whole budget.
    """
    asked = Asked.of(dict(options or {}) | settings)
    if asked.inner == INDUCTOR:
        return FusedCall(graph_module, asked.fused, _shared(options, asked.budget_bytes))
    compiler = autograd_back_end(
        fw_compiler=_compile,
        bw_compiler=_compile,
        partition_fn=functools.partial(_partition, asked=asked),
    )
    compiled: Callable[..., Any] = compiler(graph_module, example_inputs)
    return compiled


_budgets: list[tuple[Any, SharedBudget]] = []


def _shared(options: Any, budget_bytes: int) -> SharedBudget:
    """The budget of the model that a graph belongs to.

    One call of torch.compile hands the very same options on with each of its graphs.
    """
    for known, shared in _budgets:
        if known is options:
            return shared
    shared = SharedBudget(budget_bytes)
    _budgets.append((options, shared))
    return shared


@dataclass(frozen=True)
class Asked:
    """The options of the back end, checked.

    Attributes
    ----------
    budget_bytes : int
    step : StepOptions
        Of which the back end takes `optimizer` (default: none) and `costs`.
    search : SearchOptions
        Without chunks of the loss: what torch.compile has traced is what runs.
    inner : "ops" or "inductor"
        What runs the planned graphs.
    on_report : callable, optional
    """

    budget_bytes: int
    step: StepOptions
    search: SearchOptions
    inner: str = INNER[0]
    on_report: Callable[[FusedReport], Any] | None = None

    @property
    def fused(self) -> FusedAsked:
        """What is asked of fused steps."""
        return FusedAsked(self.budget_bytes, self.step, self.search, self.on_report)

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Asked:
        """From the options that torch.compile hands on."""
        settings = dict(settings)
        gigabytes_, bytes_ = settings.pop("budget_gb", None), settings.pop("budget_bytes", None)
        try:
            budget = whole_budget(gigabytes_, bytes_)
        except InvalidArgument as error:
            raise InvalidArgument(f"{error} {_HOW}") from None
        step = {"optimizer": None} | {k: settings.pop(k) for k in _STEP if k in settings}
        inner = one_of("inner", settings.pop("inner", INNER[0]), INNER)
        on_report = settings.pop("on_report", None)
        search = SearchOptions.of(**settings, chunked_loss=False)
        return cls(budget, StepOptions.of(**step), search, inner, on_report)


def _compile(module: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    return mark_boxed(compile_boxed(module))


def _partition(
    joint: fx.GraphModule,
    joint_inputs: Any,
    *,
    num_fwd_outputs: int,
    static_lifetime_input_indices: Sequence[int] | None = None,
    asked: Asked,
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
    with outside_fake_mode():
        measures = measure(captured, asked.step)
    step = Footprint(measures.graph, measures.resident)
    search = PlanSearch(asked.budget_bytes, asked.search, Deadline(asked.search.time_limit))
    result = search.find(step)
    if result is None:
        least = search.least(step)
        result = search.adopt(step, least)
        if result is None:
            raise infeasible_budget(step, asked.budget_bytes, least, subject="this compiled graph")
    assert result.schedule is not None
    logger.info(
        "Planned %d ops within %s: peak %s, %d steps, %s.",
        len(step.graph.ops),
        gigabytes(asked.budget_bytes),
        gigabytes(step.peak(result.schedule)),
        len(result.schedule),
        result.status,
    )
    # The runtime checks that what is saved does not change: statistics that it overwrites after
    # the forward are saved as copies.
    halves = split(captured, result.schedule, copy_idle=True)
    return halves.forward, halves.backward
