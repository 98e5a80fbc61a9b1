"""Capture: modules, graph modules, exported programs and models of the hub."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from pebble.errors import InvalidArgument
from pebble.tracing import OutputKind, capture
from tests.tracing.capturing import X, agree, check_graph


def test_graph_module() -> None:
    agree(fx.symbolic_trace(nn.Sequential(nn.Linear(8, 8), nn.GELU())), (X,))


def test_exported_program() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    program = torch.export.export(model, (X,))
    captured = capture(program, (X,))
    check_graph(captured)
    assert len(captured.gradients) == 2


def test_no_module() -> None:
    with pytest.raises(InvalidArgument, match="function"):
        capture(lambda x: x, (X,))


def gpt2(**more: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, **more,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


IDS = torch.arange(16).reshape(2, 8)


def test_gpt2_with_dropout_and_logging() -> None:
    captured = agree(gpt2(), (), {"input_ids": IDS, "labels": IDS}, call={"use_cache": False})
    assert [o.kind for o in captured.outputs] == [OutputKind.DIFFERENTIABLE, OutputKind.CUT]
    (tied,) = [s for s in captured.slots if s.aliases]
    assert set(tied.aliases) | {tied.name} == {"transformer.wte.weight", "lm_head.weight"}
    modules = {op.module for op in captured.graph.ops}
    assert "transformer.h.1.mlp.c_fc" in modules
    named = sum(bool(op.module) for op in captured.graph.ops)
    assert named > 0.8 * len(captured.graph.ops)


def test_gpt2_with_its_cache() -> None:
    kwargs = {"input_ids": IDS, "labels": IDS, "use_cache": True}
    captured = agree(gpt2(), (), kwargs)
    assert len(captured.outputs) > 2
    assert len(captured.tangents) == 1


def test_lora() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(gpt2(), config).train()
    kwargs = {"input_ids": IDS, "labels": IDS}
    captured = agree(model, (), kwargs, call={"use_cache": False})
    wanted = [s.name for s in captured.slots if s.node in captured.gradients]
    assert len(wanted) == 4 and all("lora_" in name for name in wanted)
