"""A planned module with other inputs than it was planned for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import InvalidArgument, PlanMismatch
from tests.runtime.following import Net, X, Y, equal, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


MISMATCHES: dict[str, tuple[Callable[[], tuple[tuple[Any, ...], dict[str, Any]]], str]] = {
    "shape": (lambda: ((X[:4], Y), {}), r"args\[0\].*shape \[5, 6\].*\[4, 6\]"),
    "dtype": (lambda: ((X.double(), Y), {}), r"args\[0\].*float32.*float64"),
    "strides": (lambda: ((X.t().contiguous().t(), Y), {}), r"args\[0\].*strides"),
    "gradient": (lambda: ((X.clone().requires_grad_(), Y), {}), r"args\[0\].*requires_grad"),
    "missing": (lambda: ((X,), {}), r"args\[1\].*missing"),
    "no tensor": (lambda: ((X, 3), {}), r"args\[1\].*tensor.*int"),
    "one more": (lambda: ((X, Y), {"z": X}), r"kwargs\['z'\].*new"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_other_inputs_are_a_mismatch(case: str) -> None:
    make, text = MISMATCHES[case]
    args, kwargs = make()
    with pytest.raises(PlanMismatch, match=text):
        planned(Net(), X, Y)(*args, **kwargs)


def test_arguments_may_come_by_position_or_by_keyword_in_any_order() -> None:
    module = planned(Net(), X, Y)
    losses = [module(X, Y), module(X, y=Y), module(y=Y, x=X)]
    assert len({float(out["loss"]) for out in losses}) == 1


def test_constants_of_the_call_are_part_of_the_plan() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return super().forward(x) * scale

    module = planned(Scaled(6, 3), X, 2.0)
    module(X, scale=2.0).sum().backward()
    with pytest.raises(PlanMismatch, match="scale|args"):
        module(X, 3.0)
    with pytest.raises(PlanMismatch, match="missing"):
        module(X)
    module = planned(Scaled(6, 3), X)
    module(X, 1.0).sum().backward()  # the default, said aloud
    with pytest.raises(PlanMismatch, match=r"planned as 1\.0, but is 3\.0"):
        module(X, 3.0)
    with pytest.raises(PlanMismatch, match="new"):
        planned(Scaled(6, 3), X)(X, 3.0)


def test_two_inputs_that_were_one_tensor_at_planning_may_differ_later() -> None:
    model = nn.Bilinear(6, 6, 2)
    module = planned(model, X, X)
    other = torch.randn(5, 6)
    module(X, other).sum().backward()
    found = grads(model)
    model.zero_grad()
    model(X, other).sum().backward()
    assert all(torch.allclose(a, b) for a, b in zip(found, grads(model), strict=True))


def test_on_mismatch_eager_runs_the_model() -> None:
    module = planned(Net(), X, Y, on_mismatch="eager")
    output = module(X[:2], Y[:2])
    assert "Cut" not in type(output["logits"].grad_fn).__name__, "the model's own"
    assert "Cut" in type(module(X, Y)["logits"].grad_fn).__name__
    with pytest.raises(InvalidArgument, match="on_mismatch"):
        planned(Net(), X, Y, on_mismatch="ignore")


class Writes(nn.Module):
    """Adds to its first input, and counts in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)
        self.register_buffer("total", torch.zeros(5, 6))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a.add_(1.0)
        self.total.add_(b)
        return self.mix(b) + self.mix(a).sum()


def test_inputs_of_a_call_may_not_share_what_is_written_to() -> None:
    model = Writes()
    a, b = torch.randn(5, 6), torch.randn(5, 6)
    module = planned(model, a.clone(), b)
    module(a, b).sum().backward()
    long = torch.randn(8, 6)
    for first, second, name in (
        (b, b, r"args\[1\]"),
        (long[:5], long[3:], r"args\[1\]"),
        (model.total, b, "total"),
        (b, model.total, "total"),
        (model.mix.weight.detach()[:5], b, "mix.weight"),
    ):
        with pytest.raises(PlanMismatch, match=f"shares memory with|{name}.*Pass a copy"):
            module(first, second)
    module(long[:3].repeat(2, 1)[:5], long[3:]).sum().backward()
    table = torch.randn(10, 6)
    before = table.clone()
    module(table[:5], table[5:]).sum().backward()  # halves are apart
    assert torch.equal(table[:5], before[:5] + 1)


def test_one_tensor_as_two_arguments_that_are_written_to_trains_as_in_eager() -> None:
    torch.manual_seed(0)
    model = Writes()
    twin, x = copy.deepcopy(model), torch.randn(5, 6)
    same = x.clone()
    module = planned(model, same, same)
    a, b = x.clone(), x.clone()
    module(a, a).sum().backward()
    twin(b, b).sum().backward()
    assert torch.equal(a, b), "written once, as eager does"
    assert torch.equal(model.total, twin.total)
    assert equal(grads(model), grads(twin))
    module(a, a.detach())  # the same elements of the same memory
    module(b=a, a=a)
    for other in (b, a[:4], a.clone()):
        with pytest.raises(PlanMismatch, match="same tensor at planning"):
            module(a, other)
    with pytest.raises(PlanMismatch, match=r"args\[1\].*missing"):
        module(a)


def test_without_a_write_inputs_may_be_one_tensor() -> None:
    model = Net()
    module = planned(nn.Bilinear(6, 6, 2), X, X.clone())
    module(X, X).sum().backward()
    assert planned(model, X)(X).grad_fn is not None


def test_a_call_with_shared_memory_runs_eagerly_where_that_was_asked_for() -> None:
    a, model = torch.randn(5, 6), Writes()
    eager = model(a.clone(), a + 1)
    module = planned(model, a.clone(), a.clone(), on_mismatch="eager")
    assert torch.equal(module(a, a), eager)
