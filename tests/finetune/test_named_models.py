"""Named shapes: sizes as published, without memory, with adapters."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from pebble.errors import InvalidArgument
from pebble.finetune.lora import Adapted
from pebble.finetune.named_models import SHAPES, build_shape
from pebble.measure.memory import step_memory
from pebble.tracing import capture

pytest.importorskip("transformers")

BILLIONS = {
    "llama-1b": 1.236, "llama-3b": 3.213, "llama-7b": 6.738, "llama-8b": 8.030,
    "llama-13b": 13.016, "llama-70b": 68.977, "qwen2.5-1.5b": 1.544, "qwen2.5-3b": 3.086,
    "qwen2.5-7b": 7.616, "smollm-135m": 0.1345, "gpt2": 0.1244, "gpt2-medium": 0.3548,
    "gpt2-large": 0.7740, "gpt2-xl": 1.5576, "bert-base": 0.1095, "bert-large": 0.3352,
    "vit-base": 0.0858, "vit-large": 0.3033,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_as_published(name: str) -> None:
    model, inputs = build_shape(name)
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) / 1e9 == pytest.approx(BILLIONS[name], rel=1e-3)
    assert {p.dtype for p in parameters} == {torch.bfloat16}
    assert all(hasattr(p, "fake_mode") for p in parameters)
    assert model.training
    assert all(hasattr(t, "fake_mode") for t in inputs.tensors())
    assert "labels" in inputs.kwargs


def test_batch_and_length() -> None:
    _, inputs = build_shape("llama-7b", batch_size=3, seq_len=2048)
    assert inputs.kwargs["input_ids"].shape == (3, 2048)


def test_adapters_train_and_nothing_else_does() -> None:
    model, _ = build_shape("llama-7b", lora_rank=8)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == 32 * 2 * 2 * 8 * 4096
    assert all(n.endswith((".down", ".up")) for n in trained)


def test_a_small_configuration_file_builds_for_real(tmp_path: Path) -> None:
    small = {**SHAPES["gpt2"], "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**small, "n_positions": 16}))
    model, inputs = build_shape(str(path), dtype="fp32", fake=False, lora_rank=2)
    before = model.transformer.h[0].attn.c_attn
    assert isinstance(before, Adapted)
    x = torch.randn(3, 32)
    assert torch.equal(before(x), before.base(x)), "adapters begin as no change"
    model(*inputs.args, **inputs.kwargs).loss.backward()
    assert before.up.grad is not None
    assert before.base.weight.grad is None
    captured = capture(model, inputs.args, inputs.kwargs)
    memory = step_memory(captured, optimizer="adam")
    assert memory.gradients == 4 * 2 * 2 * (32 + 96)


@pytest.mark.parametrize(
    "options",
    [{"name": "llama-9000b"}, {"dtype": "fp4"}, {"lora_rank": 0}, {"lora_targets": ["nothing"]}],
)
def test_what_is_unknown_is_said(options: dict[str, object]) -> None:
    arguments = {"name": "gpt2", "lora_rank": 4, **options}
    with pytest.raises(InvalidArgument):
        build_shape(**arguments)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 10_000, "is no JSON: it is nested"),
        ("[1]", "is no JSON object"),
        ('{"model_type": 5, "architectures": "x"}', "names model_type 5 and architecture 'x'"),
        ('{"model_type": "llama", "architectures": ["pipeline"]}', "architecture 'pipeline'"),
        (
            '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": "x"}',
            "is no configuration of a llama",
        ),
    ],
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    pytest.importorskip("transformers")
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=sentence) as error:
        build_shape(str(path))
    assert len(str(error.value)) < 600


def test_tokens_that_a_shape_does_not_have_are_not_spoken_of(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SHAPES["gpt2"], "vocab_size": 100, "n_layer": 1}))
    log, said = logging.getLogger("transformers"), logging.Handler()
    heard: list[logging.LogRecord] = []
    said.emit = heard.append  # type: ignore[method-assign]
    log.addHandler(said)
    try:
        build_shape(str(path), seq_len=8)
        assert heard == []
        logging.getLogger("transformers.heard").error("a test of the test")
        assert len(heard) == 1
    finally:
        log.removeHandler(said)


def test_a_shape_on_a_card_that_is_not_there() -> None:
    model, inputs = build_shape("gpt2", device="cuda", precision="fp16", seq_len=16)
    places = {str(t.device) for t in (*model.parameters(), *model.buffers(), *inputs.tensors())}
    assert places == {"cuda:0"}
    assert model.lm_head.weight is model.transformer.wte.weight  # type: ignore[union-attr]
    with pytest.raises(InvalidArgument, match="device is 'tpu'"):
        build_shape("gpt2", device="tpu")
