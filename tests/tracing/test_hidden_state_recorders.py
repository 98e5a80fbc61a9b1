"""Models that record hidden states behind a lock in their first forward."""

from __future__ import annotations

import sys

import pytest
import torch

import pebble
from pebble.plan.optimization import plan_step
from pebble.tracing import hidden_state_recorders as recorders


def segformer() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_labels=3,
        num_attention_heads=[1, 1, 2, 2],
    )  # fmt: skip
    inputs = {
        "pixel_values": torch.randn(2, 3, 64, 64),
        "labels": torch.randint(0, 3, (2, 64, 64)),
    }
    return SegformerForSemanticSegmentation(config).train(), inputs


def hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.slow
def test_a_model_that_records_hidden_states_is_planned_and_left_as_it_was() -> None:
    model, inputs = segformer()
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    step = pebble.optimize(model, inputs, budget_gb=1, solver="greedy").step
    assert hooks(model) == 0
    assert {name: set(vars(module)) for name, module in model.named_modules()} == keys
    assert step is not None
    keep = plan_step(step, 10**9, solver="keep_all")
    room = keep.baseline_peak_bytes - step.resident.total
    plan = plan_step(step, step.resident.total + int(0.95 * room), solver="greedy")
    assert plan.validate(repeats=1).ok


def test_a_model_that_has_run_before_keeps_its_recorders_and_takes_a_plan() -> None:
    model, inputs = segformer()
    model(**inputs)
    before = hooks(model)
    assert before > 0
    plan = pebble.optimize(model, inputs, budget_gb=1, solver="greedy")
    assert hooks(model) == before
    plan.apply(model)(**inputs).loss.backward()


def test_only_a_part_of_transformers_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.output_capturing

    assert transformers.utils.output_capturing.__name__ == recorders.MODULE
    monkeypatch.delitem(sys.modules, "transformers.modeling_utils", raising=False)
    with recorders.recorders_in_place(torch.nn.Linear(2, 2)) as nothing:
        assert nothing is None and "transformers.modeling_utils" not in sys.modules
