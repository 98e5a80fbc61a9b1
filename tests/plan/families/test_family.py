"""A family predicts to the byte, takes the cheapest schedule that fits, and survives a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InfeasibleBudget, InvalidArgument, PlanFormatError
from pebble.plan.families.family import Family
from pebble.plan.families.planners import planner_of
from pebble.plan.families.polynomials import Shape
from tests.plan.families.growing import BUDGET, Tiny, measured_peak, tokens

pytestmark = [pytest.mark.usefixtures("one_thread", "seeded"), pytest.mark.slow]

LENGTHS = (8, 40)


@pytest.fixture(scope="module")
def planned() -> nn.Module:
    return pebble.budgeted(Tiny(), budget_bytes=BUDGET, optimizer=None, display=False)


@pytest.fixture(scope="module")
def made(planned: nn.Module) -> Family:
    return pebble.family(planned, tokens, lengths=LENGTHS, time_limit=3)


def test_shapes_that_were_never_traced_take_the_bytes_that_are_told(
    planned: nn.Module, made: Family
) -> None:
    traces = planner_of(planned).source.traces
    for length in (8, 23, 40):
        batch = made.max_batch(length)
        told = made.peak_bytes(batch=batch, length=length)
        assert measured_peak(planned, tokens(batch, length)) == told <= BUDGET
    planner = planner_of(planned)
    assert planner.source.traces == traces, "none of them was traced anew"
    assert {source.name for source in planner.sources} <= {"KEEP_ALL", "KNOWN"}


def test_the_largest_batch_is_the_largest(made: Family) -> None:
    for length in (8, 17, 40):
        most = made.max_batch(length)
        assert most > made.largest(length)[0]
        more = Shape(most + 1, length)
        assert min(domain.peak_bytes(more) for domain in made.domains) > BUDGET


def test_the_cheapest_that_fits_is_taken(made: Family) -> None:
    shape = Shape(made.max_batch(20), 20)
    taken = made.schedule_at(batch=shape.batch, length=20)
    costs = [d.cost_at(shape) for d in made.domains if d.peak_bytes(shape) <= BUDGET]
    assert taken is not None and made.domains[taken].cost_at(shape) == min(costs)
    assert made.overhead(batch=shape.batch, length=20) > 0
    assert made.schedule_at(batch=2, length=8) == 0
    assert made.overhead(batch=2, length=8) == 0
    assert made.schedule_at(batch=shape.batch + 1, length=20) is None
    with pytest.raises(InfeasibleBudget, match="21 need|2 of that length need"):
        made.overhead(batch=shape.batch + 1, length=20)


def test_outside_of_the_family(made: Family) -> None:
    with pytest.raises(InvalidArgument, match="lengths 8 to 40"):
        made.max_batch(41)
    with pytest.raises(InvalidArgument, match="batches of 2 to"):
        made.peak_bytes(batch=1, length=8)


def test_it_is_saved_and_loaded(made: Family, tmp_path: Path) -> None:
    made.save(tmp_path / "family.json")
    again: Any = pebble.load_plan(tmp_path / "family.json")
    assert again.table() == made.table()
    assert again.peak_bytes(batch=3, length=19) == made.peak_bytes(batch=3, length=19)
    module = again.apply(Tiny(), display=False)
    batch = made.max_batch(30)
    assert measured_peak(module, tokens(batch, 30)) == made.peak_bytes(batch=batch, length=30)


@pytest.mark.parametrize("entry", ["which", "coefficients", "schedules"])
def test_a_damaged_file_is_refused(made: Family, tmp_path: Path, entry: str) -> None:
    data = json.loads(json.dumps(made.to_json()))
    if entry == "schedules":
        data["schedules"][0] = data["schedules"][0][1:]
    elif entry == "which":
        data["step"]["sizes"]["which"][0] = 10**6
    else:
        data["step"]["sizes"]["coefficients"][0][0] = "1/0"
    (tmp_path / "family.json").write_text(json.dumps(data))
    with pytest.raises(PlanFormatError, match="damaged"):
        pebble.load_plan(tmp_path / "family.json")


def test_its_table_and_picture(made: Family) -> None:
    rows = made.table([8, 40]).splitlines()
    assert rows[2].split()[2] == str(made.max_batch(8))
    pytest.importorskip("matplotlib").use("Agg")
    ax = made.plot()
    top = max(path.vertices[:, 1].max() for c in ax.collections for path in c.get_paths())
    assert top == made.max_batch(8)
    assert pebble.plot_family(made, ax=ax) is ax


def test_a_module_of_one_plan_has_no_family() -> None:
    net = nn.Linear(4, 2)
    module = pebble.optimize(net, torch.ones(3, 4), budget_gb=1, check=False).apply(net)  # type: ignore[union-attr]
    with pytest.raises(InvalidArgument, match="on_mismatch='replan'"):
        pebble.family(module, torch.ones(3, 4))
    with pytest.raises(InvalidArgument, match="optimizer cannot be passed"):
        pebble.family(pebble.budgeted(net, budget_gb=1), optimizer="sgd")


def test_a_budget_that_holds_nothing() -> None:
    with pytest.raises(InfeasibleBudget, match="keeps a batch of 2 within 1.20 kB"):
        pebble.family(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)),
            torch.ones(4, 8),
            budget_bytes=1200,
            optimizer=None,
            display=False,
            time_limit=1,
        )
