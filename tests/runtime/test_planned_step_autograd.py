"""A planned module and autograd: a second backward, changed tensors, accumulation, threads."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import PebbleError
from tests.runtime.following import Net, X, Y, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_a_second_backward_says_what_to_do() -> None:
    loss = planned(Net(), X, Y)(X, Y)["loss"]
    loss.backward(retain_graph=True)
    with pytest.raises(PebbleError, match="once"):
        loss.backward()


def test_double_backward_says_what_to_do() -> None:
    module = planned(Net(), X, Y)
    with pytest.raises(PebbleError, match="create_graph"):
        torch.autograd.grad(module(X, Y)["loss"], list(module.parameters()), create_graph=True)


def test_a_parameter_changed_between_forward_and_backward_is_an_error() -> None:
    module = planned(Net(), X, Y)
    loss = module(X, Y)["loss"]
    with torch.no_grad():
        module.head.weight.add_(1)
    with pytest.raises(PebbleError, match=r"head\.weight.*modified in place"):
        loss.backward()


def test_an_output_changed_between_forward_and_backward_is_an_error() -> None:
    module = planned(nn.Sequential(nn.Linear(6, 3), nn.Tanh()), X)
    output = module(X)
    with torch.no_grad():
        output.zero_()
    with pytest.raises(PebbleError, match="modified in place"):
        output.sum().backward()


def test_two_forwards_before_two_backwards() -> None:
    model = Net()
    module = planned(model, X, Y)
    other = torch.randn(5, 6)
    one, two = module(X, Y)["loss"], module(other, Y)["loss"]
    two.backward()
    one.backward()
    found = grads(model)
    model.zero_grad()
    module(X, Y)["loss"].backward()
    module(other, Y)["loss"].backward()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, grads(model), strict=True))


def test_gradients_accumulate_over_micro_batches() -> None:
    model = nn.Linear(6, 3)
    module = planned(model, X)
    module(X).sum().backward()
    once = grads(model)
    module(X).sum().backward()
    assert all(torch.allclose(2 * a, b) for a, b in zip(once, grads(model), strict=True))


def test_gradients_are_handed_over_not_copied() -> None:
    model = Net()
    module = planned(model, X, Y)
    step = module.__dict__["_pebble_follower"].step
    returned: list[int] = []
    run = step.backward

    def spy(*arguments: Any) -> Any:
        made = run(*arguments)
        returned.extend(g.data_ptr() for g in made)
        return made

    step.backward = spy
    module(X, Y)["loss"].backward()
    assert [p.grad.data_ptr() for p in model.parameters()] == returned


def test_nothing_is_left_when_the_backward_never_comes() -> None:
    module = planned(nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Sigmoid()), X)
    gc.collect()
    gc.disable()
    try:
        output = module(X)
        step = weakref.ref(output.grad_fn)
        del output
        assert step() is None, "a cycle keeps the saved tensors until the collector runs"
    finally:
        gc.enable()


def test_threads_may_share_a_module() -> None:
    model = Net()
    module = planned(model, X, Y)
    losses: list[float] = []

    def work() -> None:
        for _ in range(5):
            losses.append(float(module(X, Y)["loss"].detach()))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(losses) == 15
    assert len(set(losses)) == 1
