"""A plan file is believed in nothing that the referee can replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pebble
from pebble.budget import Footprint, Resident
from pebble.graph import Graph
from pebble.plan import Plan, load_plan, plan_checks
from pebble.record import StepRecord
from pebble.referee import simulate
from pebble.solver import Status, solve
from tests.graphs import training_chain

TENSOR = {"tensor": [4, 4], "dtype": "float32", "stride": [4, 1], "requires_grad": False}


def made(room: int = 3) -> Plan:
    """A plan of a chain; it recomputes where there is less room than the chain wants."""
    graph = training_chain(6, size=100)
    resident = Resident({"parameters": 50, "inputs": 64}, 200)
    footprint = Footprint(graph, resident)
    budget = footprint.unplanned_peak - 100 * room
    result = solve(footprint.problem(budget), "greedy" if room else "keep_all")
    assert result.schedule is not None
    inputs = {"args": {"list": [TENSOR, {"same_as": 0}]}, "kwargs": {"dict": {}}}
    return Plan(
        budget,
        result.problem,
        result.schedule,
        resident,
        result.status,
        result.lower_bound,
        result.scope,
        "greedy",
        0,
        0.5,
        {"limit": float("inf")},
        StepRecord(inputs=inputs),
    )


def written(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = tmp_path / "plan.json"
    made().save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def first_input(data: dict[str, Any]) -> dict[str, Any]:
    return data["origin"]["inputs"]["args"]["list"][0]


def resigned(data: dict[str, Any], **op: Any) -> None:
    data["graph"]["ops"][0].update(op)
    data["fingerprint"] = Graph.from_json(data["graph"]).fingerprint


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "peak": (lambda d: d.update(predicted_peak_bytes=1), "It claims a peak of 1; its schedule has"),
    "cost": (lambda d: d.update(predicted_cost=1), "It claims a cost of 1; its schedule has"),
    "budget": (lambda d: d.update(budget_bytes=10**9), "It claims a budget for the graph of"),
    "small budget": (
        lambda d: d.update(budget_bytes=200, graph_budget=86),
        "is above its budget of 200",
    ),
    "bound": (lambda d: d.update(lower_bound=10**9), "no plan costs less than 1000000000"),
    "cheaper op": (lambda d: resigned(d, cost=0), "It claims a cost of"),
    "negative seconds": (lambda d: d.update(runtime=-1), "runtime is -1"),
    "infinite seconds": (lambda d: d.update(runtime=float("inf")), "runtime is inf"),
    "huge index": (lambda d: d["schedule"].append(10**30), "schedule."),
    "no such op": (lambda d: d["schedule"].append(10**9), "runs op 1000000000"),
    "text": (lambda d: d["schedule"].append("0"), "is '0'; input should be a valid integer"),
    "negative size": (lambda d: d["resident"].update(parameters=-1), "resident.parameters is -1"),
    "status": (lambda d: d.update(status="perfect"), "status is 'perfect'"),
    "threads": (lambda d: d["origin"].update(threads="many"), "threads is 'many'"),
    "large input": (lambda d: first_input(d).update(tensor=[10**9, 4]), "larger than all inputs"),
    "far stride": (lambda d: first_input(d).update(stride=[10**9, 1]), "larger than all inputs"),
    "negative shape": (lambda d: first_input(d).update(tensor=[-4]), "tensor.0 is -4"),
    "other strides": (lambda d: first_input(d).update(stride=[1]), "2 dimensions and 1 strides"),
    "same as none": (
        lambda d: d["origin"]["inputs"]["args"]["list"].append({"same_as": 5}),
        "one that does not come before it",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_file_that_claims_something_else_is_refused(name: str, tmp_path: Path) -> None:
    change, text = DAMAGES[name]
    with pytest.raises(pebble.PlanFormatError) as error:
        load_plan(written(tmp_path, change))
    assert text in str(error.value)
    assert len(str(error.value)) < 500


def test_a_plan_comes_back(tmp_path: Path) -> None:
    plan = made()
    plan.save(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert (again.schedule, again.problem) == (plan.schedule, plan.problem)
    assert (again.peak_bytes, again.cost) == (plan.peak_bytes, plan.cost)
    assert again.record == plan.record
    assert again.options == plan.options
    again.save(tmp_path / "again.json")
    assert load_plan(tmp_path / "again.json") == again


def test_optimal_is_what_the_replay_shows(tmp_path: Path) -> None:
    claimed = {"status": "optimal", "lower_bound": made().cost}
    again = load_plan(written(tmp_path, lambda d: d.update(claimed)))
    assert again.cost > again.problem.graph.total_cost == again.lower_bound
    assert again.status is Status.FEASIBLE
    made(room=0).save(tmp_path / "kept.json")
    assert load_plan(tmp_path / "kept.json").status is Status.OPTIMAL


def test_a_file_of_the_first_release_loads(tmp_path: Path) -> None:
    """Numbers of numpy stood there as text; what came later is missing."""

    def older(data: dict[str, Any]) -> None:
        data.update(schema_version="1.0", lower_bound=str(data["lower_bound"]), seed="0")
        del data["unchunked"], data["origin"]["chunks"], data["origin"]["accumulation_steps"]

    again = load_plan(written(tmp_path, older))
    assert again.seed == 0
    assert again.chunks == 0
    assert again.peak_bytes == simulate(again.problem, again.schedule).peak + 114


def test_deep_and_double_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for text, sentence in (
        ("[" * 10**6, "nested more than 200 levels deep"),
        ('{"format": "pebble-plan", "format": "pebble-plan"}', "'format' occurs twice"),
        ('{"format": "pebble-plan", "schema_version": ' + "1" * 5000 + "}", "no JSON"),
    ):
        path.write_text(text)
        with pytest.raises(pebble.PlanFormatError, match=sentence):
            load_plan(path)
    with pytest.raises(pebble.PlanFormatError, match="null byte"):
        load_plan("a\0b")


def test_a_replay_out_of_proportion_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().save(tmp_path / "plan.json")
    monkeypatch.setattr(plan_checks, "MOST_EVENTS", 10)
    with pytest.raises(pebble.PlanFormatError, match="a replay takes 10"):
        load_plan(tmp_path / "plan.json")


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    assert pebble.load_plan is load_plan
    with pytest.raises(pebble.InvalidArgument, match="there is no folder"):
        made().save(tmp_path / "missing" / "plan.json")
    assert list(tmp_path.iterdir()) == []
