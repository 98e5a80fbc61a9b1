"""Capture from fake tensors, and what a fingerprint sees."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.tracing import SlotKind, capture
from tests.tracing.capturing import Function, X, check_graph

ACROSS = """
import torch
from torch import nn
from pebble.tracing import capture
torch.manual_seed(1)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1))
print(capture(model, (torch.zeros(2, 3, 8, 8),)).graph.fingerprint)
"""


def test_fingerprint_is_the_same_from_fake_tensors_and_across_processes() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1)
        )

    real = capture(make(), (torch.randn(2, 3, 8, 8),))
    with FakeTensorMode():
        model, x = make(), torch.zeros(2, 3, 8, 8)
    fake = capture(model, (x,))
    mixed = capture(model, (torch.zeros(2, 3, 8, 8),))
    assert fake.fake and mixed.fake and not real.fake
    assert real.graph == fake.graph == mixed.graph
    done = subprocess.run([sys.executable, "-c", ACROSS], capture_output=True, text=True)
    assert done.stdout.strip() == real.graph.fingerprint, done.stderr[-500:]
    other = capture(make(), (torch.randn(2, 3, 9, 8),))
    assert other.graph.fingerprint != real.graph.fingerprint


def test_fingerprint_sees_views() -> None:
    same = capture(Function(lambda self, x: x @ self.first.weight), (X,))
    turned = capture(Function(lambda self, x: x @ self.first.weight.t()), (X,))
    assert same.graph.fingerprint != turned.graph.fingerprint


def test_a_large_model_is_captured_without_memory() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(num_hidden_layers=2, use_cache=False)  # hidden 4096: 7B's own shapes
    with FakeTensorMode():
        model = LlamaForCausalLM(config).train()
        ids = torch.zeros(1, 2048, dtype=torch.int64)
    captured = capture(model, (), {"input_ids": ids, "labels": ids})
    check_graph(captured)
    weights = [s for s in captured.slots if s.kind is SlotKind.PARAMETER]
    assert sum(captured.graph.values[captured.value_of[s.node]].size for s in weights) > 2e9
    assert all(op.recomputable for op in captured.graph.ops if op.kind[:4] == "aten")
