"""Steps that hand over their loss and nothing else of the model's output."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.measure.step import Step, trace_step
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solvers.minpeak import minimum_budget

TOKENS = torch.arange(96).reshape(2, 48) % 50


class Language(nn.Module):
    """Logits that are much larger than everything else, and the loss of their rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2000, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 2000)

    def forward(self, tokens: torch.Tensor) -> dict[str, Any]:
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        logits = self.head(hidden)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        return {"loss": loss, "logits": logits, "hidden": [hidden]}


@pytest.fixture(scope="module")
def model() -> Language:
    torch.manual_seed(0)
    return Language()


@pytest.fixture(scope="module")
def step(model: Language) -> Step:
    return trace_step(model, TOKENS, outputs="loss")


def test_the_least_peak_is_the_largest_working_set(model: Language, step: Step) -> None:
    whole = trace_step(model, TOKENS)
    least = {}
    for name, one in (("loss", step), ("all", whole)):
        least[name] = minimum_budget(one.graph, time_limit=3.0)[1]
    bound = Problem(step.graph, 0).working_set_bound
    assert bound == Problem(whole.graph, 0).working_set_bound
    assert least["loss"] <= 1.01 * bound
    assert least["all"] >= 1.2 * bound, "the logits that are handed over stay until the end"


def test_the_planned_step_returns_its_loss_and_exact_gradients(
    model: Language, step: Step, tmp_path: Path
) -> None:
    keep = simulate(step.graph, Schedule.keep_all(step.graph)).peak
    least = Problem(step.graph, 0).working_set_bound
    budget = step.resident.whole_step_peak((keep + least) // 2)
    plan = pebble.optimize(model, TOKENS, budget_bytes=budget, outputs="loss", time_limit=3)
    assert plan.outputs == "loss"
    assert "returns the loss, and None for every other tensor" in str(plan)
    assert plan.validate(model).ok
    expected = copy.deepcopy(model)
    expected(TOKENS)["loss"].backward()
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    for planned in (
        plan.apply(copy.deepcopy(model)),
        loaded.apply(copy.deepcopy(model)),
        pickle.loads(pickle.dumps(plan.apply(copy.deepcopy(model)))),
    ):
        output = planned(TOKENS)
        assert output["logits"] is None
        assert output["hidden"] == [None]
        output["loss"].backward()
        for mine, theirs in zip(planned.parameters(), expected.parameters()):
            assert torch.equal(mine.grad, theirs.grad)
        planned.eval()
        assert planned(TOKENS)["logits"].shape == (2, 48, 2000), "without a plan: the model's own"


def test_the_loss_may_run_in_chunks_too(model: Language) -> None:
    step = trace_step(model, TOKENS, outputs="loss", chunks=4)
    budget = step.resident.whole_step_peak(simulate(step.graph, range(len(step.graph.ops))).peak)
    plan = pebble.optimize(model, TOKENS, budget_bytes=budget, outputs="loss", chunked_loss=4)
    assert plan.chunks == 4
    assert plan.apply(copy.deepcopy(model))(TOKENS)["hidden"] == [None]


@pytest.mark.slow
def test_more_samples_fit(model: Language) -> None:
    sizes = {
        outputs: pebble.max_batch_size(
            model, TOKENS[:1], budget_bytes=4_000_000, outputs=outputs, chunked_loss=False,
            optimizer="sgd", time_limit=1.0,
        ).planned
        for outputs in ("all", "loss")
    }  # fmt: skip
    assert sizes["loss"] > sizes["all"] > 0


def test_a_budget_too_small_says_so(model: Language) -> None:
    with pytest.raises(InfeasibleBudget, match=r"outputs='loss', .*budget_gb=0\.00\d{4}\.") as told:
        pebble.optimize(model, TOKENS, budget_bytes=10**6, chunked_loss=False, time_limit=1)
    least = told.value.least_bytes
    with pytest.raises(InfeasibleBudget, match=f"{least - 1:,} bytes is below .* {least:,} bytes"):
        pebble.optimize(model, TOKENS, budget_bytes=least - 1, chunked_loss=False, time_limit=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"outputs": "logits"}, "outputs is 'logits'; choose one of 'all', 'loss'"),
        (
            {"outputs": "loss", "loss": lambda output: output["loss"]},
            "a loss function needs the model's outputs. Pass one of the two",
        ),
    ],
)
def test_what_makes_no_sense_is_said(
    model: Language, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        pebble.optimize(model, TOKENS, budget_gb=1, **options)
