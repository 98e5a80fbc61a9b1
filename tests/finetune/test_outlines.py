"""Outlines: the numbers of a step at any batch are those of the trace rescaled to it."""

from __future__ import annotations

from typing import Any

import pytest

from pebble.finetune.named_models import SHAPES, build_shape
from pebble.finetune.steps_by_batch import Batches
from pebble.measure.step import Step

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    import json

    small = {
        **SHAPES["llama-7b"], "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 300,
        "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("shapes") / "config.json"
    path.write_text(json.dumps(small))
    model = build_shape(str(path), lora_rank=2)[0]
    return Batches(model, None, seq_len=24, optimizer=None, costs="roofline:t4")


def numbers(step: Step) -> dict[str, Any]:
    graph = step.graph
    return {
        "sizes": [value.size for value in graph.values],
        "workspaces": [op.workspace for op in graph.ops],
        "costs": [op.cost for op in graph.ops],
        "resident": dict(step.resident.kinds),
        "optimizer step": step.resident.optimizer_step_peak,
        "peak": step.footprint.unplanned_peak,
    }


@pytest.mark.parametrize("chunks", [0, 4])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_an_outline_has_the_numbers_of_the_rescaled_trace(
    batches: Batches, batch: int, chunks: int
) -> None:
    family = batches.chunked(chunks) if chunks else batches
    outline, rescaled = family.sketch(batch), family.rescaled(batch)
    assert numbers(outline) == numbers(rescaled)
    assert numbers(outline.one_piece) == numbers(rescaled.one_piece)
    assert numbers(family.sketch(batch + 1)) != numbers(outline)
