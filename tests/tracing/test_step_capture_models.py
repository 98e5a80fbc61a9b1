"""Capture: the joint graph computes what eager computes, and the model stays as it was."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pebble.tracing import OutputKind, SlotKind, capture
from tests.tracing.capturing import Function, X, agree


def test_linear() -> None:
    captured = agree(nn.Linear(8, 4), (X,))
    assert [(s.kind, s.name) for s in captured.slots] == [
        (SlotKind.PARAMETER, "weight"),
        (SlotKind.PARAMETER, "bias"),
        (SlotKind.INPUT, "args[0]"),
    ]
    assert captured.graph.values[captured.value_of[captured.tangents[0].node]].size == 4 * 4 * 4
    assert not captured.fake and captured.device == "cpu"


def test_frozen_parameters_get_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model[0].requires_grad_(False)
    captured = agree(model, (X,))
    named = {s.name for s in captured.slots if s.node in captured.gradients}
    assert named == {"2.weight", "2.bias"}


def test_tied_weights_are_one_slot_and_one_gradient() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    captured = agree(model, (X,))
    (tied,) = [s for s in captured.slots if s.aliases]
    assert (tied.name, tied.aliases) == ("0.weight", ("2.weight",))
    assert len(captured.gradients) == 3


def test_batch_norm_updates_its_buffers_once_and_may_be_recomputed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    captured = agree(model, (torch.randn(2, 3, 8, 8),))
    updates = [o.name for o in captured.outputs if o.kind is OutputKind.BUFFER_UPDATE]
    assert sorted(updates) == ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    norm = next(op for op in captured.graph.ops if "batch_norm" in op.kind)
    assert norm.recomputable and norm.module == "1"
    pinned = {captured.value_of[o.node] for o in captured.outputs if o.name in updates}
    assert not any(captured.graph.values[v].pinned for v in pinned)


def test_a_buffer_that_is_written_to_in_place() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out = self.first(x) * self.norm.running_mean.clone()
        with torch.no_grad():
            self.norm.running_mean.mul_(0.5).add_(0.25)
        return out

    norm = nn.BatchNorm1d(8)
    norm.running_mean.fill_(2.0)
    captured = agree(Function(forward, norm=norm), (X,))
    (slot,) = [s for s in captured.slots if s.kind is SlotKind.BUFFER]
    readers = [op for op in captured.graph.ops if captured.value_of[slot.node] in op.inputs]
    assert readers and not any(op.recomputable for op in readers)


def test_mutated_input() -> None:
    def forward(self: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mask.mul_(0.5)
        return self.first(x) * mask

    captured = agree(Function(forward), (X, torch.ones(4, 8)))
    assert captured.outputs[0].kind is OutputKind.INPUT_UPDATE
    assert captured.outputs[0].name == "args[1]"


def test_dropout_draws_are_never_repeated() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    captured = agree(model, (X,))
    drawn = [op for op in captured.graph.ops if "bernoulli" in op.kind]
    assert len(drawn) == 1
    assert not drawn[0].recomputable
    assert not any("native_dropout.default" in op.kind for op in captured.graph.ops)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_attention_may_be_repeated_only_without_dropout(p: float) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        q = self.first(x).reshape(1, 2, 4, 4)
        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)

    captured = agree(Function(forward), (X,))
    random = [op for op in captured.graph.ops if not op.recomputable and op.kind[0:4] == "aten"]
    assert bool(random) == (p > 0)


def test_autocast_region() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.first(x)
        return hidden.float().square()

    captured = agree(Function(forward), (X,))
    assert any(v.spec.startswith("bf16") for v in captured.graph.values)
    assert captured.state.autocast[0][:2] == ("cpu", False)


def test_ambient_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        captured = agree(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (X,))
    assert captured.state.autocast[0] == ("cpu", True, torch.bfloat16)
    assert captured.tangents[0].node.meta["val"].dtype is torch.bfloat16
    plain = capture(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (X,))
    assert plain.graph.fingerprint != captured.graph.fingerprint


def test_same_tensor_for_two_inputs_is_two_inputs() -> None:
    def forward(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.first(x) * y

    captured = agree(Function(forward), (X, X))
    assert [s.name for s in captured.slots if s.kind is SlotKind.INPUT] == ["args[0]", "args[1]"]


def test_unused_and_constant_inputs() -> None:
    def forward(self: Any, x: torch.Tensor, *, unused: Any, scale: float) -> torch.Tensor:
        return self.first(x) * scale

    captured = agree(Function(forward), (X,), {"unused": {"y": torch.ones(2)}, "scale": 0.5})
    names = [s.name for s in captured.slots if s.kind is SlotKind.INPUT]
    assert names == ["args[0]", "kwargs['unused']['y']"]
    assert captured.state.constants == {"kwargs['scale']": 0.5}


def test_inputs_that_need_gradients() -> None:
    x = X.clone().requires_grad_()
    captured = agree(nn.Linear(8, 4), (x,))
    (slot,) = [s for s in captured.slots if s.kind is SlotKind.INPUT]
    assert captured.gradients[slot.node] is not None


def test_tensors_of_the_module_that_are_no_buffers() -> None:
    model = Function(lambda self, x: self.first(x) * self.factor + torch.tensor([1.5]))
    model.factor = torch.tensor(2.0)
    captured = agree(model, (X,))
    constants = [s for s in captured.slots if s.kind is SlotKind.CONSTANT]
    assert {s.node.op for s in constants} == {"get_attr"} and len(constants) == 2


def test_capture_leaves_no_trace() -> None:
    from torch._dynamo import config

    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[2].eval()
    model[0].weight.grad = torch.ones(8, 8)
    before = copy.deepcopy(model.state_dict())
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    modes = [module.training for module in model.modules()]
    state, settings = torch.get_rng_state(), config.get_config_copy()
    x = X.clone()
    with torch.no_grad():
        capture(model, (x,))
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert config.get_config_copy() == settings
    assert [module.training for module in model.modules()] == modes
    assert {name: set(vars(module)) for name, module in model.named_modules()} == keys
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert torch.equal(model[0].weight.grad, torch.ones(8, 8))
    assert model[0].bias.grad is None and torch.equal(x, X)
    assert gc.isenabled()
