"""Recipes: the fastest that fits, exactly planned, with what the knobs buy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.cards import CARDS, card_for
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.finetune.card_fit import Fit, fit
from pebble.finetune.named_models import SHAPES, build_shape
from pebble.finetune.recipes import Recommendation
from pebble.finetune.recommendations import recommend
from pebble.finetune.variants import (
    frozen_linears,
    seconds_to_step,
    with_accumulation,
    with_buckets,
    with_optimizer,
    with_quantised,
)
from pebble.measure.step import trace_step
from pebble.measure.weights import stored_bytes

pytest.importorskip("transformers")
LENGTH = 48


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    small = {
        **SHAPES["llama-7b"], "num_hidden_layers": 2, "hidden_size": 128, "vocab_size": 600,
        "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4,
    }  # fmt: skip
    path: Path = tmp_path_factory.mktemp("shapes") / "config.json"
    path.write_text(json.dumps(small))
    return str(path)


@pytest.fixture(scope="module")
def advice(config: str) -> Recommendation:
    return recommend(
        lambda: build_shape(config, lora_rank=4)[0],
        budget_bytes=5_000_000,
        effective_batch_size=16,
        seq_len=LENGTH,
        time_limit=6,
    )


@pytest.mark.slow
def test_the_best_recipe_fits_and_is_planned_exactly(advice: Recommendation) -> None:
    best = advice.best
    assert best.exact
    assert best.fits
    assert advice.plan.peak_bytes == best.peak_bytes <= best.budget_bytes == 5_000_000
    assert advice.plan.step is not None
    assert advice.plan.step.inputs.kwargs["input_ids"].shape == (best.choice.micro_batch, LENGTH)
    assert advice.plan.chunks == best.choice.chunks


@pytest.mark.slow
def test_the_best_is_the_fastest_that_fits_not_the_first(advice: Recommendation) -> None:
    fitting = [recipe for recipe in advice.recipes if recipe.fits]
    assert len(fitting) > 2
    assert advice.best.seconds <= 1.005 * min(recipe.seconds for recipe in fitting)
    others = [recipe.seconds for recipe in fitting[1:]]
    assert others == sorted(others)
    assert advice.best.overhead > 0, "at this budget it pays to recompute for a larger micro-batch"
    plain = [recipe for recipe in fitting if recipe.overhead <= 0]
    assert plain, "and there are recipes that need no recomputation"


@pytest.mark.slow
def test_every_recipe_has_the_effective_batch(advice: Recommendation) -> None:
    for recipe in advice.recipes:
        assert recipe.effective_batch_size == 16
        assert recipe.accumulation_steps * recipe.choice.micro_batch == 16
        assert recipe.seconds_per_sample == recipe.seconds / 16
    assert {recipe.choice.micro_batch for recipe in advice.recipes} == {1, 2, 4, 8, 16}


@pytest.mark.slow
def test_knobs_come_cheapest_first_and_buy_something(advice: Recommendation) -> None:
    times = [round(knob.extra_time, 3) for knob in advice.knobs]
    assert times == sorted(times)
    assert all(knob.saved_bytes > 0 for knob in advice.knobs)
    names = {knob.name for knob in advice.knobs}
    assert {"this plan", "loss in 8 chunks", "optimizer sgd", "frozen weights in 4bit"} <= (names)


@pytest.mark.slow
def test_the_words_name_what_dominates(advice: Recommendation) -> None:
    text = str(advice)
    first = next(iter(advice.memory))
    assert f"At the peak of the first: {first}" in text
    assert "roofline of T4" in text
    assert ("too large" in text) == any(not recipe.fits for recipe in advice.recipes)


@pytest.mark.slow
def test_the_code_is_python_that_names_the_recipe(advice: Recommendation) -> None:
    code = advice.best.code()
    compile(code, "recipe", "exec")
    assert f"budget_bytes={advice.best.budget_bytes}" in code
    assert f"chunked_loss={advice.best.choice.chunks or False}" in code
    assert (f"k % {advice.best.accumulation_steps}" in code) == (advice.best.accumulation_steps > 1)


@pytest.mark.slow
def test_a_budget_for_nothing_names_the_least_change(config: str) -> None:
    def run(budget: int) -> InfeasibleBudget:
        with pytest.raises(InfeasibleBudget) as caught:
            recommend(
                lambda: build_shape(config, lora_rank=4)[0],
                budget_bytes=budget,
                effective_batch_size=2,
                seq_len=LENGTH,
                chunked_loss=8,
                time_limit=4,
            )
        return caught.value

    hopeless = run(200_000)
    assert hopeless.least_bytes is not None
    assert hopeless.least_bytes > 200_000
    assert "No single change" in str(hopeless)
    close = run(hopeless.least_bytes - 100_000)
    assert "The least change that would fit: frozen weights in int8" in str(close)


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.nn.functional.gelu(layer(x))
        return x.square().mean()


def test_a_real_model_and_its_plan_that_runs() -> None:
    advice = recommend(
        Blocks,
        lambda batch: torch.randn(batch, 32, 64),
        budget_bytes=1_400_000,
        effective_batch_size=12,
        optimizers=("sgd", "adamw"),
        costs="roofline:t4",
        time_limit=4,
    )
    assert advice.best.choice.precision == "fp32"
    checked = advice.plan.validate(repeats=1)
    assert checked.ok_bitwise
    assert advice.plan.accumulation_steps == advice.best.accumulation_steps
    assert checked.measured_peak_bytes == advice.best.peak_bytes <= 1_400_000


@pytest.mark.parametrize(
    "options",
    [
        {"effective_batch_size": 0},
        {"devices": 3},
        {"optimizers": "adamw"},
        {"optimizers": ("newton",)},
        {"quantize": ("2bit",)},
        {"precisions": ("bf16",)},
    ],
)
def test_wrong_options_are_said(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        recommend(Blocks, torch.ones(1, 2, 64), budget_gb=1, **options)


# -- variants ------------------------------------------------------------------------------------


def test_quantised_weights_are_unpacked_where_they_are_read(config: str) -> None:
    model, inputs = build_shape(config, lora_rank=4, seq_len=LENGTH, batch_size=2)
    step = trace_step(model, inputs, costs="roofline:t4")
    packed = with_quantised(step, "4bit")
    frozen = frozen_linears(model)
    saved = sum(w.numel() * 2 - stored_bytes("4bit", *w.shape) for w in frozen.values())
    assert step.resident.kinds["parameters"] - packed.resident.kinds["parameters"] == saved
    extra = [b.workspace - a.workspace for a, b in zip(step.graph.ops, packed.graph.ops)]
    largest = max(w.numel() * 2 for w in frozen.values())
    assert max(extra) == largest
    # every weight is read once in the forward and once for the gradient of its input, except
    # the first layer's, whose input needs no gradient
    reads = sum(size > 0 for size in extra)
    assert len(frozen) < reads <= 2 * len(frozen)
    assert packed.graph.total_cost > step.graph.total_cost


def test_other_optimizers_and_kept_gradients() -> None:
    step = trace_step(Blocks(), torch.randn(2, 8, 64), optimizer="sgd")
    adam = with_optimizer(step, "adamw")
    exact = trace_step(Blocks(), torch.randn(2, 8, 64), optimizer="adamw")
    assert adam.resident == exact.resident
    parameters = sum(p.numel() * 4 for p in step.model.parameters())
    summed = with_accumulation(adam, 4)
    traced = trace_step(Blocks(), torch.randn(2, 8, 64), optimizer="adamw", accumulation_steps=4)
    assert summed.graph == traced.graph
    assert summed.resident == traced.resident
    buckets = with_buckets(adam)
    assert buckets.resident.kinds["gradient buckets"] == parameters
    assert with_buckets(summed) is summed
    assert (
        seconds_to_step(adam)
        > seconds_to_step(step)
        > seconds_to_step(with_optimizer(step, None))
        == 0
    )


# -- fit -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answer(config: str) -> Fit:
    return fit(
        config,
        method="qlora",
        budget_gb=0.1,  # what cuBLAS takes on a card is 17 MB of it
        seq_len=LENGTH,
        effective_batch_size=8,
        time_limit=4,
        card="a100",
    )


@pytest.mark.slow
def test_the_checklist_adds_up(answer: Fit) -> None:
    best = answer.recommendation.best
    lines = dict(answer.checklist)
    plan = answer.recommendation.plan
    assert sum(lines.values()) == sum(plan.memory.values()) >= best.peak_bytes
    assert (plan.record.card, plan.cap.is_reserved) == ("a100", True)
    assert {"base weights", "adapters", "optimizer", "activations"} <= set(lines)
    step = answer.recommendation.plan.step
    assert step is not None
    trained = sum(p.numel() * 2 for p in step.model.parameters() if p.requires_grad)
    assert lines["adapters"] == trained
    assert best.choice.quantize == "4bit-double"


@pytest.mark.slow
def test_verdicts_and_code(answer: Fit) -> None:
    assert [card for card, _ in answer.verdicts] == list(CARDS.values())
    assert all("fits without a plan" in verdict for _, verdict in answer.verdicts)
    compile(answer.code.replace("AutoModel....from_pretrained", "load"), "fit", "exec")
    assert "load_in_4bit" in answer.code
    assert json.loads(json.dumps(answer.data()))["peak_bytes"] == (
        answer.recommendation.best.peak_bytes
    )
    assert "priced in, not run" in str(answer)
    assert "Kernels of the A100 80 GB (compute capability 8.0) in bf16" in str(answer)


@pytest.mark.slow
def test_a_card_without_bf16_gets_fp16(config: str) -> None:
    found = fit(config, budget_gb=0.1, seq_len=16, effective_batch_size=1, time_limit=2, card="t4")
    assert found.recommendation.best.choice.precision == "fp16"


@pytest.mark.parametrize("options", [{"method": "prefix"}, {"card": "voodoo"}, {"gpu": "voodoo"}])
def test_unknown_names_are_said(config: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        fit(config, **options)


def test_cards_by_budget() -> None:
    assert card_for(10**9) is CARDS["t4"]
    assert card_for(10**12) is CARDS["h200"]


def test_public_names() -> None:
    assert pebble.recommend is recommend
    assert pebble.fit is fit
