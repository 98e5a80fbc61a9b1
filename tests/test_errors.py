"""Every wrong call gives one clear sentence of the PebbleError family: what, where, what to try."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import nn

import pebble
from pebble.errors import PebbleError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


X = torch.ones(4, 8)


class Words(nn.Module):
    """A model whose output has no tensor."""

    def forward(self, x: torch.Tensor) -> str:
        return "no tensor"


def two_devices() -> object:
    return pebble.optimize(net(), torch.ones(4, 8, device="meta"), budget_gb=1)


def foreign_plan() -> object:
    plan = pebble.optimize(net(), X, budget_gb=1, solver="keep_all")
    other = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    return plan.apply(other)


CALLS: dict[str, tuple[Callable[[], object], type[PebbleError], str]] = {
    "no inputs": (
        lambda: pebble.optimize(net(), budget_gb=1),
        pebble.InputsRequired,
        "inputs of Sequential cannot be inferred; pass inputs=",
    ),
    "no budget": (
        lambda: pebble.optimize(net(), X),
        pebble.InvalidArgument,
        "Pass one of budget_gb",
    ),
    "negative budget": (
        lambda: pebble.optimize(net(), X, budget_gb=-1),
        pebble.InvalidArgument,
        "budget_gb is -1; it must be a positive finite number",
    ),
    "zero budget": (
        lambda: pebble.optimize(net(), X, budget_gb=0),
        pebble.InvalidArgument,
        "budget_gb is 0; it must be",
    ),
    "half a byte": (
        lambda: pebble.optimize(net(), X, budget_bytes=0.5),
        pebble.InvalidArgument,
        "budget_bytes is 0.5, less than one byte",
    ),
    "half a byte in GB": (
        lambda: pebble.optimize(net(), X, budget_gb=5e-10),
        pebble.InvalidArgument,
        "budget_gb is 5e-10, less than one byte",
    ),
    "NaN budget": (
        lambda: pebble.optimize(net(), X, budget_gb=float("nan")),
        pebble.InvalidArgument,
        "budget_gb is nan; it must be",
    ),
    "budget below the floor": (
        lambda: pebble.optimize(net(), X, budget_bytes=700),
        pebble.InfeasibleBudget,
        "700 B is below the least budget known for this model",
    ),
    "unknown solver": (
        lambda: pebble.optimize(net(), X, budget_gb=1, solver="magic"),
        pebble.UnknownSolver,
        "There is no solver 'magic'; choose one of",
    ),
    "unknown solver option": (
        lambda: pebble.optimize(net(), X, budget_gb=1, solver="keep_all", speed=11),
        pebble.InvalidArgument,
        "Solver 'keep_all' has no option 'speed'",
    ),
    "unknown optimizer": (
        lambda: pebble.optimize(net(), X, budget_gb=1, optimizer="adagradd"),
        pebble.InvalidArgument,
        "adagradd",
    ),
    "unknown costs": (
        lambda: pebble.optimize(net(), X, budget_gb=1, costs="roofline:abacus"),
        pebble.InvalidArgument,
        "abacus",
    ),
    "no module": (
        lambda: pebble.optimize("gpt2", X, budget_gb=1),
        pebble.InvalidArgument,
        "The model is a str; pass a torch.nn.Module",
    ),
    "no tensor in the output": (
        lambda: pebble.optimize(Words(), X, budget_gb=1),
        pebble.CaptureError,
        "",
    ),
    "loss that is no scalar": (
        lambda: pebble.optimize(net(), X, budget_gb=1, loss=lambda out: out),
        pebble.CaptureError,
        "scalar",
    ),
    "two devices": (two_devices, pebble.InvalidArgument, "The step spans several devices"),
    "plan for another model": (
        foreign_plan,
        pebble.PlanMismatch,
        "Make a new plan with pebble.optimize",
    ),
    "time limit": (
        lambda: pebble.optimize(net(), X, budget_gb=1, time_limit=0),
        pebble.InvalidArgument,
        "time limit is 0",
    ),
    "cyclic graph": (
        lambda: pebble.Graph.from_networkx(nx.DiGraph([(0, 1), (1, 0)])),
        pebble.GraphError,
        "The graph has a cycle: 0 -> 1 -> 0",
    ),
    "negative size": (
        lambda: pebble.Graph([pebble.Op("a", 1, (), (0,))], [pebble.Value("v", -1)]),
        pebble.GraphError,
        "size of value 'v' is -1; it must not be negative",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_gives_its_sentence(name: str) -> None:
    call, kind, text = CALLS[name]
    with pytest.raises(PebbleError) as error:
        call()
    assert type(error.value) is kind
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def saved(tmp_path: Path, change: Callable[[dict], object]) -> Path:
    plan = pebble.optimize(net(), X, budget_gb=1, solver="keep_all")
    path = tmp_path / "plan.json"
    plan.save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


DAMAGES: dict[str, tuple[Callable[[dict], object], str]] = {
    "other format": (lambda d: d.update(format="x"), "is no plan"),
    "newer version": (lambda d: d.update(schema_version="2.0"), "has schema version 2.0"),
    "missing key": (lambda d: d.pop("schedule"), "schedule is missing"),
    "illegal schedule": (lambda d: d["schedule"].reverse(), "is damaged: Step 0 runs op"),
    "changed graph": (lambda d: d["graph"]["ops"][0].update(kind="aten.evil"), "fingerprint"),
    "wrong type": (
        lambda d: d.update(budget_bytes="much"),
        "budget_bytes is 'much'; input should be",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_plan_file_is_refused(name: str, tmp_path: Path) -> None:
    change, text = DAMAGES[name]
    with pytest.raises(pebble.PlanFormatError) as error:
        pebble.load_plan(saved(tmp_path, change))
    assert text in str(error.value)


def test_a_plan_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{half")
    with pytest.raises(pebble.PlanFormatError, match="is no JSON"):
        pebble.load_plan(path)
    with pytest.raises(pebble.PlanFormatError, match="cannot be read"):
        pebble.load_plan(tmp_path / "absent.json")
