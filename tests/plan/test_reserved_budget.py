"""Plans that are held within what a card reserves, on graphs without a model."""

from __future__ import annotations

import dataclasses
import random
import warnings

import pytest
import torch
from torch import nn

import pebble
from pebble.allocator.replays import least_limit
from pebble.allocator.training_events import training_events
from pebble.budget import Footprint, Resident
from pebble.deadline import Deadline
from pebble.errors import BudgetNotKept, InfeasibleBudget
from pebble.options import SearchOptions
from pebble.plan.cap import Cap
from pebble.plan.infeasible import infeasible_budget
from pebble.plan.plan import Plan
from pebble.plan.reserved_budget import ReservedSearch
from pebble.plan.search import PlanSearch
from pebble.record import StepRecord
from pebble.schedule import Schedule
from pebble.solver import Status
from tests.graphs import training_chain

MB = 2**20
RESERVED = Cap("reserved")


def chain(size: int = 11 * MB, ops: int = 8) -> Footprint:
    return Footprint(training_chain(ops, size=size), Resident({"parameters": 5 * MB}))


def uneven() -> Footprint:
    """A chain whose tensors are of many sizes: its allocator leaves holes."""
    rng, plain = random.Random(0), training_chain(16)
    values = [dataclasses.replace(v, size=rng.randint(MB, 30 * MB)) for v in plain.values]
    return Footprint(pebble.Graph(plain.ops, values), Resident({"parameters": 50 * MB}))


def planned(step: Footprint, search: PlanSearch) -> Plan:
    result = search.find(step)
    if result is None or result.schedule is None:
        raise infeasible_budget(step, search.budget_bytes, search.least(step))
    return Plan(
        search.budget_bytes, result.problem, result.schedule, step.resident, result.status,
        result.lower_bound, result.scope, result.solver, 0, result.runtime, {}, StepRecord(),
    )  # fmt: skip


def reserved_plan(step: Footprint, budget: int, cap: Cap = RESERVED) -> Plan:
    options = SearchOptions(solver="greedy", time_limit=20)
    search = PlanSearch(budget, options, Deadline(20))
    return ReservedSearch(lambda part: planned(step, part), search, cap).plan()


def unplanned_reserved(step: Footprint) -> int:
    plan = reserved_plan(step, 10**12)
    assert plan.overhead == 0
    return plan.held_bytes


@pytest.mark.parametrize("share", [1.0, 0.9, 0.8])
@pytest.mark.parametrize("step", [chain(), uneven()], ids=["chain", "uneven"])
def test_what_is_reserved_is_within_the_budget(step: Footprint, share: float) -> None:
    budget = int(share * unplanned_reserved(step))
    plan = reserved_plan(step, budget)
    assert plan.peak_bytes < plan.held_bytes == plan.allocator_peaks.reserved <= budget
    assert plan.budget_bytes == budget
    assert plan.problem == step.problem(budget)
    events = training_events(step, plan.schedule)
    assert least_limit(events) <= budget


def test_tensors_give_way_to_what_is_reserved_beside_them() -> None:
    step = uneven()
    budget = int(0.85 * unplanned_reserved(step))
    plan = reserved_plan(step, budget)
    tensors_alone = planned(step, PlanSearch(budget, SearchOptions("greedy"), Deadline(20)))
    held = dataclasses.replace(tensors_alone, cap=RESERVED).held_bytes
    assert held > budget, "or this test shows nothing"
    assert plan.cap.allowance_bytes > 0
    assert plan.peak_bytes <= budget - plan.cap.allowance_bytes
    assert plan.lower_bound <= tensors_alone.lower_bound, "a bound for the whole budget"
    assert plan.status is Status.FEASIBLE or plan.cost == plan.lower_bound


def test_the_report_names_fragmentation() -> None:
    step = uneven()
    plan = reserved_plan(step, int(0.85 * unplanned_reserved(step)))
    peaks = plan.allocator_peaks
    assert plan.memory["fragmentation"] == peaks.fragmentation > 0
    assert plan.memory["rounding"] == peaks.rounding
    assert sum(plan.memory.values()) == plan.held_bytes
    text = str(plan)
    for part in ("requested", "allocated", "reserved by torch's caching allocator", "less than"):
        assert part in text
    assert "On a card" in plan._repr_html_()


def test_expandable_segments_leave_more_to_the_tensors() -> None:
    step = uneven()
    budget = int(0.85 * unplanned_reserved(step))
    default, expandable = (
        reserved_plan(step, budget),
        reserved_plan(step, budget, Cap("reserved", expandable_segments=True)),
    )
    assert expandable.cap.allowance_bytes < default.cap.allowance_bytes
    assert expandable.cost <= default.cost
    assert "with expandable segments" in str(expandable)


def test_below_all_that_is_known_the_error_says_what_works() -> None:
    step = chain()
    with pytest.raises(InfeasibleBudget, match="for what a card reserves") as error:
        reserved_plan(step, step.peak_lower_bound + 3 * MB)
    least = error.value.least_bytes
    assert least is not None
    plan = reserved_plan(step, least) if least > step.peak_lower_bound else None
    assert plan is not None
    assert plan.held_bytes <= least


def test_at_the_limit_a_plan_that_gives_back_segments_is_told_of() -> None:
    """Two sizes that never live together: the second finds no room where the first was."""
    values = [pebble.Value("a", 30 * MB), pebble.Value("t", 0), pebble.Value("b", 40 * MB)]
    ops = [
        pebble.Op("f", 1, (), (0,)),
        pebble.Op("g", 1, (0,), (1,)),
        pebble.Op("h", 1, (1,), (2,)),
    ]
    step = Footprint(pebble.Graph(ops, values), Resident({}))
    with pytest.warns(BudgetNotKept, match=r"reserves 73.40 MB.*unused segments"):
        plan = reserved_plan(step, 50 * MB)
    assert plan.cap.at_limit
    assert plan.held_bytes <= 50 * MB
    assert "gives back unused segments at the limit" in str(plan)


# -- with a model --------------------------------------------------------------------------------


def net() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(512, 512) for _ in range(8)]), torch.randn(2048, 512)


@pytest.mark.slow
def test_optimize_holds_what_a_card_reserves() -> None:
    model, inputs = net()
    plan = pebble.optimize(
        model, inputs, budget_bytes=80 * MB, budget_kind="reserved", solver="greedy"
    )
    assert plan.held_bytes <= plan.budget_bytes
    assert plan.held_bytes > plan.peak_bytes


def test_on_the_cpu_the_bytes_of_tensors_are_held() -> None:
    model, inputs = net()
    plan = pebble.optimize(model, inputs, budget_gb=1, solver="greedy")
    assert plan.cap == Cap()
    assert plan.held_bytes == plan.peak_bytes
    assert "fragmentation" not in plan.memory
    assert "On a card" not in str(plan)


def test_an_unknown_kind_is_refused() -> None:
    model, inputs = net()
    with pytest.raises(pebble.InvalidArgument, match="budget_kind is 'used'"):
        pebble.optimize(model, inputs, budget_gb=1, budget_kind="used")  # type: ignore[arg-type]


def test_no_warning_where_the_budget_is_kept() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reserved_plan(chain(), 10**9)
    assert reserved_plan(chain(), 10**9).schedule == Schedule.keep_all(chain().graph)


def test_a_known_schedule_that_fits_is_not_refused() -> None:
    step = uneven()
    good = planned(step, PlanSearch(10**12, SearchOptions(solver="greedy"), Deadline(20)))
    bad = dataclasses.replace(good, cap=RESERVED)
    lean = Schedule(bad.schedule.order)
    budget = bad.held_bytes

    def planner(part: PlanSearch) -> Plan:
        """Finds only what reserves too much."""
        if part.budget_bytes < budget:
            raise infeasible_budget(step, part.budget_bytes, part.least(step))
        return Beyond(**{f.name: getattr(bad, f.name) for f in dataclasses.fields(bad)})

    class Beyond(Plan):
        @property
        def held_bytes(self) -> int:
            own = super().held_bytes
            return own if self.solver == "start" else own + MB

    search = PlanSearch(budget, SearchOptions(solver="greedy", time_limit=20), Deadline(20))
    found = ReservedSearch(planner, search, RESERVED, lambda step, size: lean).plan()
    assert (found.solver, found.schedule) == ("start", lean)
    assert found.held_bytes <= budget
