"""Plans as users meet them: optimise, apply, train, validate, save, load."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import pebble
from pebble.plan.plan import Plan


class Net(nn.Module):
    """A deep little network with dropout, norms and a loss of its own."""

    def __init__(self, layers: int = 6, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1))
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(x)
        logits = self.head(x)
        return nn.functional.cross_entropy(logits, y)


def made() -> tuple[Net, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return Net(), {"x": torch.randn(64, 32), "y": torch.randint(0, 3, (64,))}


@pytest.fixture(scope="module")
def plan() -> Plan:
    model, inputs = made()
    top = pebble.optimize(model, inputs, budget_gb=1, optimizer=None, solver="keep_all")
    least = top.resident.total + top.problem.working_set_bound
    budget = (least + 3 * top.baseline_peak_bytes) // 4
    return pebble.optimize(model, inputs, budget_bytes=budget, optimizer=None, time_limit=5)


def test_the_figures_of_a_plan(plan: Plan) -> None:
    assert plan.peak_bytes <= plan.budget_bytes < plan.baseline_peak_bytes
    assert plan.overhead > 0
    assert plan.lower_bound <= plan.cost
    assert plan.recomputed
    assert plan.saved
    assert sum(plan.memory.values()) == plan.peak_bytes
    assert plan.memory["parameters"] == sum(p.numel() * 4 for p in Net().parameters())


def test_validation_measures_what_was_predicted(plan: Plan) -> None:
    report = plan.validate()
    assert report.ok
    assert report.measured_peak_bytes == plan.peak_bytes
    assert str(report)


def test_training_with_the_plan_is_training_without_it(plan: Plan) -> None:
    model, inputs = made()
    planned_on = copy.deepcopy(model)
    losses = []
    for run in (model, plan.apply(planned_on)):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(run.parameters(), lr=1e-2)
        losses.append([])
        for _ in range(3):
            optimizer.zero_grad()
            loss = run(**inputs)
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == losses[1]
    for a, b in zip(model.parameters(), planned_on.parameters()):
        torch.testing.assert_close(a, b)


def test_the_report_has_its_lines(plan: Plan) -> None:
    text = str(plan)
    for part in ("Plan for Net", "no plan", "this plan", "lower bound", "At the peak:"):
        assert part in text
    html = plan._repr_html_()
    assert html.count("<tr>") == 4
    assert "<svg" in html


def test_save_and_load(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan.save(path)
    again = pebble.load_plan(path)
    assert again.schedule == plan.schedule
    assert again.problem == plan.problem
    assert again.memory == plan.memory
    assert (again.peak_bytes, again.cost) == (plan.peak_bytes, plan.cost)
    assert list(tmp_path.iterdir()) == [path]
    model, inputs = made()
    assert again.validate(model, inputs).ok


def test_a_saved_plan_applies_in_a_process_without_a_solver(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan.save(path)
    code = (
        "import sys\n"
        "sys.modules['ortools'] = sys.modules['numba'] = None\n"
        "import importlib.util, torch, pebble\n"
        "spec = importlib.util.spec_from_file_location('test_plan', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "model, inputs = module.made()\n"
        "plan = pebble.load_plan(sys.argv[2])\n"
        "plan.apply(model)(**inputs).backward()\n"
        "print(plan.validate(model, inputs).ok, 'pebble.solvers' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, __file__, str(path)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "True False", done.stderr


def test_a_plan_for_another_shape_names_the_difference(plan: Plan) -> None:
    model, inputs = made()
    with pytest.raises(pebble.PlanMismatch, match="Make a new plan"):
        plan.apply(Net(width=16), inputs={"x": torch.randn(64, 16), "y": inputs["y"]})
    planned = plan.apply(model)
    with pytest.raises(pebble.PlanMismatch, match="x"):
        planned(x=inputs["x"][:32], y=inputs["y"][:32])
    lenient = plan.apply(model, on_mismatch="eager")
    assert lenient(x=inputs["x"][:32], y=inputs["y"][:32]).ndim == 0


def test_a_solver_of_the_users_own() -> None:
    from pebble import Answer, Schedule

    def mine(problem: pebble.Problem) -> Answer:
        return Answer(Schedule.keep_all(problem.graph))

    model, inputs = made()
    own = pebble.optimize(model, inputs, budget_gb=1, solver=mine)
    assert (own.solver, own.status, own.overhead) == ("mine", "optimal", 0.0)


def test_the_same_seed_gives_the_same_plan(plan: Plan) -> None:
    model, inputs = made()
    again = pebble.optimize(
        model, inputs, budget_bytes=plan.budget_bytes, optimizer=None, solver="greedy"
    )
    twice = pebble.optimize(
        model, inputs, budget_bytes=plan.budget_bytes, optimizer=None, solver="greedy"
    )
    assert again.schedule == twice.schedule


def test_display_logs_progress(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = made()
    top = pebble.optimize(model, inputs, budget_gb=1, optimizer=None, solver="keep_all")
    budget = (top.resident.total + top.problem.working_set_bound + top.baseline_peak_bytes) // 2
    with caplog.at_level(logging.INFO, logger="pebble"):
        pebble.optimize(
            model, inputs, budget_bytes=budget, optimizer=None, time_limit=3, display=True
        )
    assert any("incumbent" in r.message and "gap" in r.message for r in caplog.records)


@pytest.mark.slow
def test_a_sweep_never_inverts() -> None:
    model, inputs = made()
    table = pebble.sweep(model, inputs, budgets=4, optimizer=None, time_limit=15)
    for solver in ("greedy", "sqrt", "auto"):
        overheads = [
            r.overhead for r in table.rows if r.solver == solver and r.overhead is not None
        ]
        assert overheads == sorted(overheads, reverse=True)
    assert all(r.peak_bytes <= r.budget_bytes for r in table.rows if r.peak_bytes)
    assert json.dumps(table.data())
    assert "extra compute" in str(table)


def test_plots_return_their_axes(plan: Plan) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from pebble.plan.plots import plot_memory

    ax = plot_memory(plan)
    low, high = ax.get_ylim()
    assert low == 0
    assert high * 1e6 >= plan.baseline_peak_bytes
    assert {t.get_text() for t in ax.get_legend().get_texts()} >= {"no plan", "budget"}


class Tagger(nn.Module):
    """A model whose labels may be its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 50)

    def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.head(torch.tanh(self.embed(ids)))
        return nn.functional.cross_entropy(logits, labels)


def test_an_input_given_twice_counts_once_also_after_a_file(tmp_path: Path) -> None:
    ids = torch.randint(0, 50, (1000,))
    twice = {"ids": ids, "labels": ids}
    top = pebble.optimize(Tagger(), twice, budget_gb=1, optimizer=None, solver="keep_all")
    assert top.memory["inputs"] == 8000
    tight = pebble.optimize(
        Tagger(), twice, budget_bytes=top.peak_bytes, optimizer=None, solver="keep_all"
    )
    tight.save(tmp_path / "plan.json")
    for plan in (tight, pebble.load_plan(tmp_path / "plan.json")):
        model = Tagger()
        plan.apply(model)
        assert plan.validate(model, twice).exact


class Two(nn.Module):
    """Two outputs, of which the second is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 16), nn.Sequential(nn.Linear(32, 64), nn.Tanh())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(x), self.second(x)


def second_squared(outputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return outputs[1].square().mean()


def test_a_loaded_plan_asks_for_its_loss_by_name_and_is_the_same_with_it(tmp_path: Path) -> None:
    x = torch.randn(64, 32)
    plan = pebble.optimize(Two(), x, budget_gb=1, loss=second_squared, solver="keep_all")
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    for call in (loaded.apply, loaded.validate):
        with pytest.raises(pebble.InvalidArgument, match="pass loss=second_squared"):
            call(Two())
    planned = loaded.apply(Two(), loss=second_squared)
    second_squared(planned(x)).backward()
    report = loaded.validate(Two(), x, loss=second_squared)
    assert report.ok
    assert report.predicted_peak_bytes == plan.peak_bytes
    # A plan that is still at hand remembers its loss, for another model of the shape, too.
    second_squared(plan.apply(Two())(x)).backward()


@pytest.mark.slow
def test_a_loaded_plan_keeps_its_peak_where_the_loss_reads_one_output(tmp_path: Path) -> None:
    x, net = torch.randn(64, 32), nn.Sequential(nn.Linear(32, 64), nn.Tanh())
    plan = pebble.optimize(net, x, budget_gb=1, loss=lambda y: y.exp().mean(), solver="keep_all")
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    with pytest.raises(pebble.InvalidArgument, match="lambda"):
        loaded.validate(net, x)
    report = loaded.validate(net, x, loss=lambda y: y.exp().mean())
    assert report.predicted_peak_bytes == plan.peak_bytes == report.measured_peak_bytes


def test_a_plan_without_a_loss_takes_none() -> None:
    plan = pebble.optimize(*made(), budget_gb=1, solver="keep_all")
    with pytest.raises(pebble.InvalidArgument, match="without loss="):
        plan.apply(made()[0], loss=second_squared)
