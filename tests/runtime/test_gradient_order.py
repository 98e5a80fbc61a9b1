"""The order in which a planned step's gradients arrive where somebody listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pebble.plan.optimization import optimize
from pebble.runtime.gradient_order import gradient_order
from pebble.tracing import capture


class Net(nn.Module):
    """Weights of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(12, 4, bias=False)
        self.words = nn.Embedding(9, 16)
        self.norm = nn.LayerNorm(16)
        self.conv, self.batch_norm = nn.Conv1d(5, 5, 3, padding=1), nn.BatchNorm1d(5)
        self.inner, self.scale = nn.Linear(16, 12), nn.Parameter(torch.ones(12))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(tokens))
        x = self.inner(self.batch_norm(self.conv(x)).relu())
        return self.last((x * self.scale).tanh() + x)


def arrivals(model: nn.Module, names: dict[int, str], call: nn.Module) -> list[str]:
    """Names of parameters as the hooks of a backward see them."""
    found: list[str] = []
    hooks = [
        p.register_post_accumulate_grad_hook(lambda p: found.append(names[id(p)]))
        for p in model.parameters()
    ]
    call(torch.arange(10).reshape(2, 5) % 9).square().mean().backward()
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_gradients_arrive_in_the_order_of_eager() -> None:
    model = Net()
    names = {id(p): name for name, p in model.named_parameters()}
    x = torch.arange(10).reshape(2, 5) % 9
    expected = arrivals(model, names, model)
    assert sorted(expected) == sorted(names.values())
    captured = capture(model, (x,))
    slots = [slot for slot in captured.slots if slot.node in captured.gradients]
    assert [slots[i].name for i in gradient_order(captured, slots)] == expected
    model.zero_grad()
    plan = optimize(model, x, budget_gb=1, optimizer=None, solver="recompute_all", check=False)
    wrapped = DistributedDataParallel(plan.apply(model))
    assert arrivals(model, names, wrapped) == expected
    first = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    with wrapped.no_sync():  # added up behind the views
        wrapped(x).square().mean().backward()
    for parameter, gradient in zip(model.parameters(), first, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)
