"""A planned step whose model returns several outputs: each gradient is eager's, or is refused."""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import BudgetNotKept, PebbleError
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import capture
from tests.runtime.schedules import everything_again

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
X = torch.linspace(-1, 1, 32).reshape(4, 8)


@dataclasses.dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor | None
    name: str = "pair"


class Two(nn.Module):
    """Two layers, and outputs that a function makes of them."""

    def __init__(self, make: Callable[[Two, torch.Tensor], Any]) -> None:
        super().__init__()
        self.make = make
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(self, x)


def split(model: Two, x: torch.Tensor) -> Any:
    mean, spread = model.left(x).chunk(2, -1)
    return model.right(torch.cat([mean, spread.exp()], -1)), mean, spread


def scores(model: Two, x: torch.Tensor) -> Any:
    return model.right(x), model.right(model.left(x).tanh())


def nested(model: Two, x: torch.Tensor) -> Any:
    return {"a": None, "b": {"c": model.left(x), "d": [model.right(x), None]}, "ids": x.argmax(-1)}


def same_twice(model: Two, x: torch.Tensor) -> Any:
    h = model.left(x)
    return h, h, h.contiguous(), h.detach()


def infinite_slope(model: Two, x: torch.Tensor) -> Any:
    h = model.left(x)
    return model.right(h), h.mul(0).sqrt()


CASES: dict[str, tuple[Any, Any]] = {
    "all in the loss": (split, lambda o: o[0].square().mean() + o[1].square().sum() + o[2].sum()),
    "one in the loss": (split, lambda o: o[2].exp().sum()),
    "real and fake": (scores, lambda o: (o[1] - o[0]).mean()),
    "real alone": (scores, lambda o: o[0].mean()),
    "nested": (nested, lambda o: o["b"]["c"].exp().sum()),
    "nested in a list": (nested, lambda o: o["b"]["d"][0].exp().sum()),
    "a dataclass": (lambda m, x: Pair(m.left(x), m.right(x)), lambda o: o.right.exp().sum()),
    "None inside": (lambda m, x: Pair(m.left(x), None), lambda o: o.left.exp().sum()),
    "given twice": (same_twice, lambda o: (o[0] * o[1].exp() * o[2] * o[3]).sum()),
    "an input": (lambda m, x: (m.left(x), x), lambda o: (o[0] * o[1].exp()).sum()),
    "an input alone": (lambda m, x: (m.left(x), x), lambda o: o[1].exp().sum()),
    "a parameter": (lambda m, x: (m.left(x), m.right.weight), lambda o: o[1].exp().sum()),
    "views": (lambda m, x: (m.left(x).t(), m.left(x).view(-1)), lambda o: o[1].exp().sum()),
    "an infinite slope unused": (infinite_slope, lambda o: o[0].sum()),
}


def planned(model: nn.Module, x: torch.Tensor = X, **options: Any) -> Any:
    captured = capture(model, (x,), **options)
    return build(model, captured, everything_again(captured.graph))


def gradients(module: nn.Module, loss: Any, x: torch.Tensor) -> list[torch.Tensor | None]:
    module.zero_grad()
    given = x.clone().requires_grad_()
    loss(module(given)).backward()
    return [given.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_eagers_and_none_where_eager_has_none(case: str) -> None:
    make, loss = CASES[case]
    model = Two(make)
    expected = gradients(copy.deepcopy(model), loss, X)
    module = planned(model, X.clone().requires_grad_())
    for _ in range(2):
        found = gradients(module, loss, X)
        assert [g is None for g in found] == [g is None for g in expected]
        for mine, eager in zip(found, expected):
            if mine is not None:
                torch.testing.assert_close(mine, eager)


def test_gradients_that_are_there_are_added_to_where_one_output_is_used() -> None:
    model = Two(scores)
    module = planned(model)
    before = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = before[name].clone()
    with pytest.warns(BudgetNotKept):
        module(X)[0].sum().backward()
    assert torch.equal(model.left.weight.grad, before["left.weight"])
    assert not torch.equal(model.right.weight.grad, before["right.weight"])


def test_an_output_that_is_there_twice_is_one_tensor() -> None:
    first, second, third, detached = planned(Two(same_twice))(X)
    assert first is second and first is third
    assert detached is not first and not detached.requires_grad


def own_loss(model: Two, x: torch.Tensor) -> Any:
    h, weight = model.left(x), model.right.weight
    return {"loss": h.square().mean(), "logits": h, "ids": h.argmax(-1), "weight": weight}


def test_an_output_beside_the_loss_raises_where_a_gradient_reaches_it() -> None:
    model = Two(own_loss)
    output = planned(model)(X)
    assert output["logits"].requires_grad and not output["ids"].requires_grad
    with pytest.raises(PebbleError, match=r"'logits'.*differentiate=\['logits'\]"):
        (output["loss"] + output["logits"].exp().sum()).backward()
    assert model.left.weight.grad is None
    output = planned(model)(X)
    with pytest.raises(PebbleError, match="'weight'"):
        torch.autograd.grad(output["weight"].sum(), [model.right.weight])


def test_an_output_beside_the_loss_can_be_looked_at() -> None:
    model = Two(own_loss)
    output = planned(model)(X)
    logits = output["logits"]
    assert str(logits) and logits.argmax(-1).equal(output["ids"])
    assert logits[0, 0].item() == float(copy.deepcopy(logits.detach())[0, 0])
    with torch.no_grad():
        assert not (logits * 2).requires_grad
    output["loss"].backward()
    assert model.left.weight.grad is not None


def test_a_change_of_an_output_that_the_backward_reads_is_an_error() -> None:
    model = Two(own_loss)
    captured = capture(model, (X,))
    for change in (lambda t: t.mul_(2), lambda t: t.detach().mul_(2)):
        output = build(model, captured, Schedule.keep_all(captured.graph))(X)
        change(output["logits"])
        with pytest.raises(PebbleError, match="'logits' was modified in place"):
            output["loss"].backward()


def test_a_change_of_what_shares_memory_with_a_root_is_an_error() -> None:
    def views(model: Two, x: torch.Tensor) -> Any:
        h = model.left(x)
        return h, h.view(-1)

    output = planned(Two(views), differentiate=("[0]",))(X)
    with pytest.raises(RuntimeError, match="modified inplace"):
        output[1].mul_(2)


def test_an_output_beside_the_loss_keeps_no_tape() -> None:
    output = planned(Two(own_loss))(X)
    logits, step = output["logits"], weakref.ref(output["loss"].grad_fn.step)
    del output
    gc.collect()
    assert step() is None and logits.requires_grad


@pytest.mark.parametrize("asked", ["all", ("logits",)])
def test_differentiate_gives_the_gradient_of_both(asked: Any) -> None:
    model = Two(own_loss)

    def loss(output: Any) -> Any:
        return output["loss"] + output["logits"].exp().sum()

    expected = gradients(copy.deepcopy(model), loss, X)
    found = gradients(planned(model, X.clone().requires_grad_(), differentiate=asked), loss, X)
    for mine, eager in zip(found, expected):
        assert (mine is None) == (eager is None)
        if mine is not None:
            torch.testing.assert_close(mine, eager)
