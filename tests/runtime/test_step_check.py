"""A planned step that is not eager's is found, whatever is wrong with it; nothing stays behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import InvalidArgument, PlanIsWrong
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.step_check import StepCheck
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private import joint_export
from pebble.verdict import Checked, Verdict
from tests.runtime.schedules import everything_again

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

aten = torch.ops.aten


class Net(nn.Module):
    """Something of everything that a step writes, draws and differentiates."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.drop, self.last = nn.Dropout(0.4), nn.Linear(8, 3)
        self.calls, self.seen = 0, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.drop(torch.tanh(self.norm(self.first(x))))
        return self.last(h * 0.5)


def x() -> torch.Tensor:
    return torch.randn(16, 6, requires_grad=True)


def check(captured: Captured, model: nn.Module, *args: Any) -> Verdict:
    pending = StepCheck(
        everything_again(captured.graph), eager_bytes=0, resident_bytes=0, captured=captured
    )
    return pending.insist(model, Inputs(args))


def change(captured: Captured, target: Any, position: int, value: Any, place: int = 0) -> None:
    """Put another constant into the joint graph."""
    node = [n for n in captured.joint.graph.nodes if n.target is target][place]
    args = list(node.args)
    assert args[position] != value
    args[position] = value
    node.args = tuple(args)


def test_a_planned_step_is_eager_s_bit_for_bit() -> None:
    model, given = Net(), x()
    assert check(capture(model, (given,)), model, given).state is Checked.EQUAL


def another_forward_constant(captured: Captured) -> Captured:
    change(captured, aten.mul.Tensor, 1, 0.51)
    return captured


def another_backward_constant(captured: Captured) -> Captured:
    change(captured, aten.mul.Tensor, 1, 0.51, place=1)
    return captured


def a_wrong_buffer_update(captured: Captured) -> Captured:
    norm = next(n for n in captured.joint.graph.nodes if "batch_norm" in str(n.target))
    change(captured, norm.target, norm.args.index(0.1), 0.2)
    return captured


def a_dropped_draw(captured: Captured) -> Captured:
    draw = next(n for n in captured.joint.graph.nodes if n.target is aten.bernoulli.p)
    draw.target, draw.args = aten.fill.Scalar, (draw.args[0], True)
    return captured


def a_lost_gradient(captured: Captured) -> Captured:
    lost = next(slot.node for slot in captured.slots if slot.name == "first.weight")
    return replace(captured, gradients={**captured.gradients, lost: None})


def a_lost_input_gradient(captured: Captured) -> Captured:
    lost = next(slot.node for slot in captured.slots if slot.name == "args[0]")
    return replace(captured, gradients={**captured.gradients, lost: None})


FAULTS: dict[Callable[[Captured], Captured], str] = {
    another_forward_constant: "output",
    another_backward_constant: "gradient of 'norm.bias'",
    a_wrong_buffer_update: "buffer 'norm.running_mean'",
    a_dropped_draw: "output",
    a_lost_gradient: "gradient of 'first.weight'",
    a_lost_input_gradient: "gradient of 'args[0]'",
}


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_found_and_named(plant: Callable[[Captured], Captured]) -> None:
    model, given = Net(), x()
    captured = plant(capture(model, (given,)))
    with pytest.raises(PlanIsWrong, match="The planned step of Net is not eager's: the") as error:
        check(captured, model, given)
    assert error.value.name.startswith(FAULTS[plant]), error.value.name
    assert "check=False" in str(error.value)


def test_a_detached_output_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = Net(), x()
    captured, call = capture(model, (given,)), PlannedStep.__call__
    monkeypatch.setattr(PlannedStep, "__call__", lambda self, t: call(self, t).detach())
    with pytest.raises(PlanIsWrong, match="derivative of output 'output' is missing"):
        check(captured, model, given)


class Router(nn.Module):
    """Full precision inside of mixed precision."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.route = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.lift(x)
        with torch.autocast("cpu", enabled=False):
            return self.route(h.float()).softmax(-1)


def test_a_backward_traced_under_autocast_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = Router(), torch.randn(64, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        right = capture(model, (given,))
    assert check(right, model, given).state is Checked.EQUAL, "whatever autocast is on now"
    monkeypatch.setattr(joint_export, "_backward_outside_autocast", contextlib.nullcontext)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wrong = capture(model, (given,))
    with pytest.raises(PlanIsWrong, match="gradient of"):
        check(wrong, model, given)


def test_what_rounding_does_is_no_fault() -> None:
    model, given = Net(), x()
    captured = capture(model, (given,))
    change(captured, aten.mul.Tensor, 1, 0.5 * (1 + 3e-7))
    assert check(captured, model, given).state is Checked.ROUNDED


class Cancels(nn.Module):
    """The gradient of a bias before a norm is nothing but rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.mix(x) * 0.5) * 2.0).square()


def test_a_gradient_of_rounding_alone_is_no_fault() -> None:
    model, given = Cancels(), torch.randn(64, 6)
    captured = capture(model, (given,))
    change(captured, aten.mul.Tensor, 1, 0.5 * (1 + 1.2e-7))
    assert check(captured, model, given).state is Checked.ROUNDED


class Busy(Net):
    """Writes to everything that a step may write to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:The forward of Busy changes Python state")
def test_the_model_is_afterwards_what_it_was() -> None:
    model, given, steps = Busy(), x(), []
    captured = capture(model, (given,))
    model.eval()
    first = model.first.weight
    first.grad = kept = torch.ones_like(first)
    first.register_post_accumulate_grad_hook(lambda p: steps.append("parameter"))
    first.register_hook(lambda grad: steps.append("gradient"))
    model.last.register_forward_hook(lambda *_: steps.append("module"))
    model.register_forward_hook(lambda *_: steps.append("model"))
    given.register_hook(lambda grad: steps.append("input"))
    model.stale = model.last(torch.ones(1, 8))  # has a history: cannot be copied
    steps.clear()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.get_rng_state()
    assert check(captured, model, given).state is Checked.EQUAL
    assert steps == []
    assert (model.calls, model.seen, model.training) == (0, [], False)
    assert first.grad is kept
    assert torch.equal(kept, torch.ones_like(first))
    assert all(p.grad is None for p in (*model.last.parameters(), given))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_reads_the_model_itself_adds_to_no_gradient() -> None:
    model, given = Net(), x()
    weight = model.last.weight
    captured = capture(model, (given,), loss=lambda y: y.square().mean() + weight.square().sum())
    weight.grad = kept = torch.ones_like(weight)
    assert check(captured, model, given).state is Checked.EQUAL
    assert weight.grad is kept
    assert torch.equal(kept, torch.ones_like(weight))


def test_inputs_that_share_memory_do_so_in_both_steps() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(6, 6)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            a.add_(1.0)
            return self.mix(a) + b

    model, apart = Both(), (torch.randn(4, 6), torch.randn(4, 6))
    captured, before = capture(model, apart), [t.clone() for t in apart]
    assert check(captured, model, *apart).state is Checked.EQUAL
    assert all(torch.equal(a, b) for a, b in zip(apart, before)), "what was written is put back"
    whole = torch.randn(4, 6)
    with pytest.raises((PlanIsWrong, InvalidArgument)):
        check(captured, model, whole, whole)


def test_a_model_that_cannot_be_copied_is_left_alone() -> None:
    model, given = Net(), x()
    captured = capture(model, (given,))
    model.names = (name for name in "ab")
    pending = StepCheck(
        Schedule.keep_all(captured.graph), eager_bytes=0, resident_bytes=0, captured=captured
    )
    found = pending.run_if_short(model, Inputs((given,)), 60.0)
    assert found.state is Checked.SKIPPED
    assert "a copy of it cannot be made" in found.reason
    with pytest.raises(InvalidArgument, match="a copy of it cannot be made"):
        pending.insist(model, Inputs((given,)))


def test_an_eager_step_above_the_budget_is_not_run() -> None:
    model, given = Net(), x()
    captured = capture(model, (given,))
    pending = StepCheck(
        Schedule.keep_all(captured.graph), eager_bytes=1000, resident_bytes=10, budget_bytes=1010,
        captured=captured,
    )  # fmt: skip
    call = Inputs((given,))
    found = pending.run(model, call, within_budget=True)
    assert str(found) == (
        "skipped: an eager step beside it needs 1.02 kB, above the budget of 1.01 kB."
    )
    assert pending.run(model, call).state is Checked.EQUAL
    enough = replace(pending, budget_bytes=1020)
    assert enough.run(model, call, within_budget=True).state is Checked.EQUAL
    assert replace(pending, eager_bytes=10**18).run(model, call).state is Checked.SKIPPED
