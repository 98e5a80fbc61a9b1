"""The largest batch of a budget: found by planning, confirmed by running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.finetune.named_models import SHAPES, build_shape
from pebble.finetune.rescaled_traces import rescale, tracer_batch
from pebble.finetune.steps_by_batch import Batches
from pebble.measure.step import trace_step
from pebble.plan.differences import first_difference
from pebble.plan.optimization import plan_step
from pebble.tracing.inputs import make_inputs

pytest.importorskip("transformers")
SMALL: dict[str, dict[str, Any]] = {
    "llama-7b": {
        "num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 100, "intermediate_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 100},
    "vit-base": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
    "bert-base": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
}  # fmt: skip


def small(name: str, folder: Path) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**SHAPES[name], **SMALL[name]}))
    return str(path)


@pytest.mark.parametrize(
    "name", [n if n == "vit-base" else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_one_trace_serves_every_batch_size(name: str, tmp_path: Path) -> None:
    length = None if name == "vit-base" else 24
    model, _ = build_shape(small(name, tmp_path), seq_len=length)
    prime = tracer_batch(model)
    wide = make_inputs(model, batch_size=prime, seq_len=length)
    traced = trace_step(model, wide, costs="roofline:t4")
    for batch in (2, 5):
        inputs = make_inputs(model, batch_size=batch, seq_len=length)
        sketch = rescale(traced, prime, inputs, batch)
        exact = trace_step(model, inputs, costs="roofline:t4")
        assert first_difference(sketch.graph, exact.graph) is None
        assert [op.cost for op in sketch.graph.ops] == [op.cost for op in exact.graph.ops]
        assert sketch.resident == exact.resident


class Blocks(nn.Module):
    def __init__(self, width: int = 48, depth: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x.square().mean()


BUDGET = 3_000_000


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, pebble.BatchSizes]:
    torch.manual_seed(0)
    model = Blocks()
    example = torch.randn(1, 16, 48)
    sizes = pebble.max_batch_size(model, example, budget_bytes=BUDGET, time_limit=20.0)
    return model, sizes


@pytest.mark.slow
def test_the_planned_batch_fits_when_run(found: tuple[nn.Module, pebble.BatchSizes]) -> None:
    _, sizes = found
    assert sizes.plan is not None
    checked = sizes.plan.validate(repeats=1)
    assert checked.ok
    assert checked.measured_peak_bytes <= BUDGET < sizes.next_peak_bytes
    assert sizes.plan.step is not None
    assert sizes.plan.step.inputs.args[0].shape[0] == sizes.planned


@pytest.mark.slow
def test_without_a_plan_the_batch_fits_and_the_next_does_not(
    found: tuple[nn.Module, pebble.BatchSizes],
) -> None:
    model, sizes = found
    peaks = []
    for batch in (sizes.unplanned, sizes.unplanned + 1):
        step = trace_step(model, torch.randn(batch, 16, 48))
        plan = plan_step(step, 10**9, solver="keep_all")
        peaks.append(plan.validate(repeats=1).measured_peak_bytes)
    assert peaks[0] == sizes.unplanned_peak_bytes <= BUDGET < peaks[1]


@pytest.mark.slow
def test_the_plan_buys_samples_and_says_so(found: tuple[nn.Module, pebble.BatchSizes]) -> None:
    _, sizes = found
    assert 0 < sizes.unplanned < sizes.planned <= sizes.limit
    assert f"buys {sizes.gain} more samples" in str(sizes)


@pytest.mark.slow
def test_an_allowance_of_extra_compute_is_kept() -> None:
    torch.manual_seed(0)
    model = Blocks()
    options: dict[str, Any] = {"budget_bytes": BUDGET, "time_limit": 10.0}
    sizes = pebble.max_batch_size(
        model, lambda batch: torch.randn(batch, 16, 48), max_overhead=0.1, **options
    )
    assert sizes.plan is not None
    assert sizes.plan.overhead <= 0.1
    assert sizes.planned >= sizes.unplanned


def test_sketches_of_a_real_model_meet_the_exact_step() -> None:
    batches = Batches(Blocks(), torch.randn(1, 16, 48))
    batches.exact(4)
    batches.exact(8)
    sketch, exact = batches.sketch(16), batches.exact(16)
    assert [v.size for v in sketch.graph.values] == [v.size for v in exact.graph.values]
    assert sketch.resident == exact.resident
    assert sketch.footprint.unplanned_peak == pytest.approx(
        exact.footprint.unplanned_peak, rel=0.02
    )


def test_a_tensor_given_twice_stays_one() -> None:
    ids = torch.arange(6).reshape(2, 3)

    class Takes(nn.Module):
        def forward(self, **batch: object) -> None: ...

    inputs = Batches(Takes(), {"input_ids": ids, "labels": ids, "scale": 2}).inputs(5)
    assert inputs.kwargs["labels"] is inputs.kwargs["input_ids"]
    assert inputs.kwargs["input_ids"][:, 0].tolist() == [0, 3, 0, 3, 0]
    assert inputs.kwargs["scale"] == 2


def test_a_budget_for_no_sample_at_all() -> None:
    with pytest.raises(InfeasibleBudget):
        pebble.max_batch_size(Blocks(), torch.ones(1, 16, 48), budget_bytes=400_000)


@pytest.mark.parametrize("most", [-0.1, float("nan")])
def test_an_allowance_must_be_a_number(most: float) -> None:
    with pytest.raises(InvalidArgument, match="max_overhead"):
        pebble.max_batch_size(Blocks(), torch.ones(1, 16, 48), budget_gb=1, max_overhead=most)


class OtherAlone(nn.Module):
    """A model that one sample takes another way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x if len(x) == 1 else x.tanh().sin()).square().mean()


def test_a_budget_for_few_samples_where_one_alone_has_other_ops() -> None:
    parameters = sum(p.numel() for p in OtherAlone().parameters())
    sizes = pebble.max_batch_size(
        OtherAlone(), torch.ones(1, 64), budget_bytes=8 * parameters + 800, optimizer=None,
        time_limit=2,
    )  # fmt: skip
    assert 1 <= sizes.unplanned <= sizes.planned
    assert sizes.plan is not None
    assert sizes.plan.peak_bytes <= sizes.budget_bytes
