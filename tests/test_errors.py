"""Every wrong call gives one clear sentence of the PebbleError family: what, where, what to try."""

from __future__ import annotations

import functools
import json
import re
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


def pair() -> pebble.Graph:
    ops = [pebble.Op("a", 1, (), (0,)), pebble.Op("b", 1, (0,), (1,))]
    return pebble.Graph(ops, [pebble.Value("v", 4), pebble.Value("w", 8)])


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
        lambda: pebble.optimize(net(), X, budget_gb=1, solver="keep_all", depth=11),
        pebble.InvalidArgument,
        "Solver 'keep_all' has no option 'depth'",
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
    "budget in words": (
        lambda: pebble.optimize(net(), X, budget_gb="8GB"),
        pebble.InvalidArgument,
        "budget_gb is '8GB'; it must be a positive finite number",
    ),
    "both budgets": (
        lambda: pebble.optimize(net(), X, budget_gb=1, budget_bytes=10**9),
        pebble.InvalidArgument,
        "Pass one of budget_gb",
    ),
    "time in words": (
        lambda: pebble.optimize(net(), X, budget_gb=1, time_limit="fast"),
        pebble.InvalidArgument,
        "The time limit is 'fast'; it must be a positive number of seconds",
    ),
    "seed": (
        lambda: pebble.optimize(net(), X, budget_gb=1, seed=0.5),
        pebble.InvalidArgument,
        "seed is 0.5; it must be an integer",
    ),
    "outputs": (
        lambda: pebble.optimize(net(), X, budget_gb=1, outputs="logits"),
        pebble.InvalidArgument,
        "outputs is 'logits'; choose one of 'all', 'loss'",
    ),
    "one chunk": (
        lambda: pebble.optimize(net(), X, budget_gb=1, chunked_loss=1),
        pebble.InvalidArgument,
        "chunked_loss is 1; pass 'auto', False, or a number of chunks from 2 on",
    ),
    "no micro-batches": (
        lambda: pebble.optimize(net(), X, budget_gb=1, accumulation_steps=0),
        pebble.InvalidArgument,
        "accumulation_steps is 0; it must be a positive integer",
    ),
    "level": (
        lambda: pebble.optimize(net(), X, budget_gb=1, level="layer"),
        pebble.InvalidArgument,
        "level is 'layer'; choose one of 'auto', 'graph', 'module'",
    ),
    "budget kind": (
        lambda: pebble.optimize(net(), X, budget_gb=1, budget_kind="vram"),
        pebble.InvalidArgument,
        "budget_kind is 'vram'; choose one of 'allocated', 'reserved'",
    ),
    "check": (
        lambda: pebble.optimize(net(), X, budget_gb=1, check="yes"),
        pebble.InvalidArgument,
        "check is 'yes'; choose one of None, True, False",
    ),
    "display": (
        lambda: pebble.optimize(net(), X, budget_gb=1, display="bar"),
        pebble.InvalidArgument,
        "display is 'bar'; choose one of None, True, False",
    ),
    "differentiate": (
        lambda: pebble.optimize(net(), X, budget_gb=1, differentiate=3),
        pebble.InvalidArgument,
        "differentiate is 3; pass 'loss', 'all', or a list of names of outputs",
    ),
    "loss that is no function": (
        lambda: pebble.optimize(net(), X, budget_gb=1, loss="mse"),
        pebble.InvalidArgument,
        "loss is 'mse'; pass a function from the model's output to a scalar",
    ),
    "misspelt option": (
        lambda: pebble.optimize(net(), X, budget_gb=1, optimiser="sgd"),
        pebble.InvalidArgument,
        "optimize has no option 'optimiser'; did you mean 'optimizer'?",
    ),
    "class in place of a model": (
        lambda: pebble.optimize(nn.Linear, X, budget_gb=1),
        pebble.InvalidArgument,
        "The model is a type; pass a torch.nn.Module",
    ),
    "class in place of an optimizer": (
        lambda: pebble.optimize(net(), X, budget_gb=1, optimizer=torch.optim.AdamW),
        pebble.InvalidArgument,
        "The optimizer is the class AdamW; pass AdamW(model.parameters())",
    ),
    "optimizer of another model": (
        lambda: pebble.optimize(
            net(), X, budget_gb=1, optimizer=torch.optim.SGD(net().parameters(), lr=0.1)
        ),
        pebble.InvalidArgument,
        "The SGD holds no parameter of this Sequential",
    ),
    "number as inputs": (
        lambda: pebble.optimize(net(), 3, budget_gb=1),
        pebble.InvalidArgument,
        "pass a tensor, a tuple of positional arguments, or a mapping of keyword arguments",
    ),
    "keyword that the forward does not take": (
        lambda: pebble.optimize(net(), {"y": X}, budget_gb=1),
        pebble.InvalidArgument,
        "The inputs do not fit Sequential.forward(input)",
    ),
    "labels among the inputs": (
        lambda: pebble.optimize(net(), (X, X), budget_gb=1),
        pebble.InvalidArgument,
        "The labels of a batch belong into loss=",
    ),
    "frozen model": (
        lambda: pebble.optimize(net().requires_grad_(False), X, budget_gb=1),
        pebble.CaptureError,
        "Unfreeze a parameter",
    ),
    "on_mismatch": (
        lambda: small_plan().apply(net(), on_mismatch="ignore"),
        pebble.InvalidArgument,
        "on_mismatch is 'ignore'; choose one of 'error', 'eager', 'replan'",
    ),
    "loss that the plan does not have": (
        lambda: small_plan().apply(net(), loss=lambda out: out.sum()),
        pebble.InvalidArgument,
        "leave loss= out, or make a plan with it",
    ),
    "plan into no folder": (
        lambda: small_plan().save("/nowhere/plan.json"),
        pebble.InvalidArgument,
        "there is no folder '/nowhere'; make it first",
    ),
    "page into no folder": (
        lambda: small_plan().to_html("/nowhere/plan.html"),
        pebble.InvalidArgument,
        "The page cannot be written to '/nowhere/plan.html'",
    ),
    "snapshot into no folder": (
        lambda: small_plan().to_memory_viz("/nowhere/plan.pickle"),
        pebble.InvalidArgument,
        "The memory snapshot cannot be written",
    ),
    "picture that there is not": (
        lambda: small_plan().plot("graph"),
        pebble.InvalidArgument,
        "what is 'graph'; choose one of 'memory', 'timeline', 'modules', 'matrices'",
    ),
    "picture of something else": (
        lambda: pebble.plot_family(small_plan()),
        pebble.InvalidArgument,
        "plot_family draws a Family, not a Plan; pass what pebble.family returned",
    ),
    "explanation of a file's name": (
        lambda: pebble.explain("plan.json"),
        pebble.InvalidArgument,
        "explain takes a Plan, not a str; pass what pebble.optimize",
    ),
    "status of a plain model": (
        lambda: pebble.status(net()),
        pebble.InvalidArgument,
        "This Sequential follows no plan; pass what plan.apply(model) returned",
    ),
    "graph in place of a problem": (
        lambda: pebble.solve(pair()),
        pebble.InvalidArgument,
        "solve takes a Problem, not a Graph; pass pebble.Problem(graph, budget)",
    ),
    "problem of no graph": (
        lambda: pebble.Problem("graph.txt", 8),
        pebble.InvalidArgument,
        "A problem is of a Graph, not of a str; make one with pebble.Graph",
    ),
    "solver without an answer": (
        lambda: pebble.solve(pebble.Problem(pair(), 12), lambda problem: None),
        pebble.InvalidArgument,
        "a solver returns an Answer",
    ),
    "name of a solver that is taken": (
        lambda: pebble.register("auto")(lambda problem: None),
        pebble.InvalidArgument,
        "A solver called 'auto' is registered already; choose another name",
    ),
    "schedule of unknown ops": (
        lambda: pebble.simulate(pair(), [0, 7]),
        pebble.InvalidSchedule,
        "Step 1 runs op 7, but graph 'graph' has ops 0 to 1",
    ),
    "schedule in no order": (
        lambda: pebble.simulate(pair(), [1, 0]),
        pebble.InvalidSchedule,
        "reads value 'v', but no earlier step has made it",
    ),
    "budgets in GB to sweep": (
        lambda: pebble.sweep(net(), X, budgets=[0.03, 0.06]),
        pebble.InvalidArgument,
        "budgets has 0.03; pass bytes of the whole step",
    ),
    "an unknown solver to sweep": (
        lambda: pebble.sweep(None, solvers=["atention"]),  # asked before anything is traced
        pebble.UnknownSolver,
        "There is no solver 'atention'; choose one of",
    ),
    "one budget to sweep": (
        lambda: pebble.sweep(net(), X, budgets=1),
        pebble.InvalidArgument,
        "budgets is 1; a sweep needs at least 2",
    ),
    "solvers in one text": (
        lambda: pebble.sweep(net(), X, solvers="auto"),
        pebble.InvalidArgument,
        "solvers is 'auto'; pass a list of names",
    ),
    "buckets": (
        lambda: pebble.estimate(net(), X, ddp="zero"),
        pebble.InvalidArgument,
        "ddp is 'zero'; choose one of 'copies', 'views'",
    ),
    "dtype of states": (
        lambda: pebble.estimate(net(), X, state_dtype="fp8"),
        pebble.InvalidArgument,
        "state_dtype is 'fp8'; choose one of 'fp32', 'bf16', 'fp16'",
    ),
    "model in place of its maker": (
        lambda: pebble.recommend(net(), X, budget_gb=1),
        pebble.InvalidArgument,
        "make_model is a Sequential; pass a function that makes the model",
    ),
    "batch that devices cannot share": (
        lambda: pebble.recommend(net, X, budget_gb=1, effective_batch_size=8, devices=3),
        pebble.InvalidArgument,
        "choose a multiple of their number",
    ),
    "unknown shape": (
        lambda: pebble.fit("llama-9b"),
        pebble.InvalidArgument,
        "Shape 'llama-9b' is not known; choose one of",
    ),
    "lengths the wrong way round": (
        lambda: pebble.family(net(), X, budget_gb=1, lengths=(8, 4)),
        pebble.InvalidArgument,
        "lengths is (8, 4); the shortest is at least 2, and not above the longest",
    ),
    "no steps": (
        lambda: pebble.micro_batches(X, 0),
        pebble.InvalidArgument,
        "steps is 0; it must be a positive integer",
    ),
    "labels in a list": (
        lambda: pebble.loss_weights([], 2),
        pebble.InvalidArgument,
        "labels is a list; pass the tensor of the full batch's labels",
    ),
    "parameters below zero": (
        lambda: pebble.weight_arithmetic(-1),
        pebble.InvalidArgument,
        "parameters is -1; it must not be negative",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_gives_its_sentence(name: str) -> None:
    call, kind, text = CALLS[name]
    with pytest.raises(PebbleError) as error:
        call()
    assert type(error.value) is kind
    assert text in str(error.value)
    assert_clear(str(error.value))


TO_TRY = re.compile(
    r"\b(pass|choose|make|must|try|use|check|needs?|returns? an|did you mean|unfreeze|leave|sweep|"
    r"has ops|belong|move|at least|has made|cycle|add)\b",
    re.IGNORECASE,
)


def assert_clear(text: str) -> None:
    """One line that says what to try and names nothing that a user cannot reach."""
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert TO_TRY.search(text), text
    assert not re.findall(r"(?<![\w'])_\w+|<class|object at 0x", text), text
    for name in re.findall(r"\bpebble\.(\w+)", text):
        assert name in pebble.__all__, text


def test_fifty_wrong_calls_are_made() -> None:
    assert len(CALLS) >= 50


@functools.cache
def small_plan() -> pebble.Plan:
    return pebble.optimize(net(), X, budget_gb=1, solver="keep_all")


def saved(tmp_path: Path, change: Callable[[dict], object]) -> Path:
    path = tmp_path / "plan.json"
    small_plan().save(path)
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
        "budget_bytes is 'much'; ",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_plan_file_is_refused(name: str, tmp_path: Path) -> None:
    change, text = DAMAGES[name]
    with pytest.raises(pebble.PlanFormatError) as error:
        pebble.load_plan(saved(tmp_path, change))
    assert text in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"tensor": [4, 8], "dtype": "float33", "stride": [8, 1], "requires_grad": False},
        {"tensor": [4, 8], "dtype": "int32", "stride": [8, 1], "requires_grad": True},
        {"Point": [{"value": 1}]},
        {"list": 3},
        [],
    ],
)
def test_recorded_inputs_that_cannot_be_made_again_are_asked_for(
    tmp_path: Path, damage: object
) -> None:
    plan = pebble.load_plan(
        saved(tmp_path, lambda d: d["origin"]["inputs"]["args"].update(list=[damage]))
    )
    with pytest.raises(pebble.PlanFormatError, match="pass inputs= again"):
        plan.apply(net())


def test_a_plan_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{half")
    with pytest.raises(pebble.PlanFormatError, match="is no JSON"):
        pebble.load_plan(path)
    with pytest.raises(pebble.PlanFormatError, match="cannot be read"):
        pebble.load_plan(tmp_path / "absent.json")
