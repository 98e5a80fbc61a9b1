"""Under autocast: loss, gradients and the random state afterwards are eager's, bit for bit."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pebble
from pebble.errors import PebbleWarning, PlanMismatch
from pebble.runtime import build
from pebble.tracing import capture
from pebble.tracing.torch_private.operators import TO_COPY
from tests.runtime.schedules import everything_again
from tests.tracing.capturing import Function

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

HALVES = (torch.bfloat16, torch.float16)
X = torch.linspace(-2, 2, 64).reshape(8, 8)


def island(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        share = m.first(x.float()).softmax(-1)
    return m.first(x) * share


def twice(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.first(m.first(m.first(x).tanh()).tanh())


def in_full_precision_too(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.first(x) * m.first.weight.sum()
    with torch.autocast("cpu", enabled=False):
        h = m.first(h.float()) + m.first.weight
    return m.first(m.first(h)) + m.first.weight.exp() * m.first.bias


def tied(m: Any, x: torch.Tensor) -> torch.Tensor:
    words = torch.arange(8)
    h = F.embedding(words, m.first.weight)
    return F.linear(m.first(h + x).relu(), m.first.weight)


def cast_by_hand(m: Any, x: torch.Tensor) -> torch.Tensor:
    half = torch.get_autocast_dtype("cpu")
    h = F.linear(x.to(half), m.first.weight.to(half))
    return m.first(F.linear(h, m.first.weight.to(half))) @ m.first.weight


def frozen_for_once(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        h = m.first(x)
    return m.first(m.first(h).sin())


def dropped(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = F.dropout(m.first(x), 0.3)
    return F.dropout(m.first(h), 0.15) + F.dropout(h.float(), 0.1)


def dropped_across(m: Any, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(m.first(x).T, 0.3).contiguous() @ F.dropout1d(
        m.first(x), 0.3
    ) + F.alpha_dropout(x, 0.2)


def attention(m: Any, x: torch.Tensor) -> torch.Tensor:
    q = m.first(x)[None, None]
    return m.first(F.scaled_dot_product_attention(q, q, q, dropout_p=0.2)[0, 0])


def split_weight(m: Any, x: torch.Tensor) -> torch.Tensor:
    a, b = m.first.weight.chunk(2)
    return F.linear(m.first(x), a) @ F.linear(x, b).T @ m.first(x)


FORWARDS: dict[str, Callable[..., torch.Tensor]] = {
    f.__name__: f
    for f in (
        island, twice, in_full_precision_too, tied, cast_by_hand, frozen_for_once, dropped,
        dropped_across, attention, split_weight,
    )
}  # fmt: skip


def step(module: nn.Module, around: Any, x: torch.Tensor = X) -> list[Any]:
    x = x.detach().clone().requires_grad_(x.requires_grad)
    torch.manual_seed(11)
    with around():
        loss = module(x).float().square().mean()
    loss.backward()
    after = torch.rand(2)
    return [loss.detach(), after, x.grad, *(p.grad for p in module.parameters())]


def same_bits(model: nn.Module, around: Any, x: torch.Tensor = X) -> pebble.tracing.Captured:
    eager = step(copy.deepcopy(model), around, x)
    with around():
        captured = capture(model, (x.detach().clone().requires_grad_(x.requires_grad),))
        planned = build(model, captured, everything_again(captured.graph))
    found = step(planned, around, x)
    for mine, theirs in zip(found, eager, strict=True):
        assert (mine is None) is (theirs is None)
        assert mine is None or torch.equal(mine, theirs)
    return captured


def casts(captured: pebble.tracing.Captured) -> int:
    nodes = [n for ops in captured.op_nodes for n in ops]
    return sum(
        n.target is TO_COPY and n.args[0].op == "placeholder"  # type: ignore[union-attr]
        for n in nodes
    )


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", FORWARDS)
def test_the_bits_are_eagers(name: str, half: torch.dtype) -> None:
    same_bits(Function(FORWARDS[name]), lambda: torch.autocast("cpu", dtype=half))


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_an_input_that_is_differentiated_is_cast_once_too(half: torch.dtype) -> None:
    x = X.clone().requires_grad_()
    model = Function(lambda m, x: m.first(x) @ x @ m.first(x).T @ x)
    same_bits(model, lambda: torch.autocast("cpu", dtype=half), x)


def test_a_weight_is_cast_once_for_several_uses() -> None:
    captured = same_bits(Function(twice), lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert casts(captured) == 3  # weight, bias, input


def test_without_the_cache_every_use_casts() -> None:
    captured = same_bits(
        Function(twice),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False),
    )
    assert casts(captured) == 7


def test_autocast_inside_the_forward_caches_until_it_ends() -> None:
    def regions(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = m.first(m.first(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = m.first(m.first(h.tanh()).tanh())
        return m.first(h.float())

    captured = same_bits(Function(regions), contextlib.nullcontext)
    assert casts(captured) == 5  # weight and bias once in each of the two, and the input


def test_validate_runs_the_backward_outside_of_autocast() -> None:
    model = Function(island)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = pebble.optimize(
            model, X, budget_gb=1, optimizer=None, solver="recompute_all", costs="flops"
        )
        report = plan.validate(repeats=1)
    assert report.ok_bitwise


def half(kept: bool | None = None) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=kept)


@pytest.mark.parametrize("kept", [True, False])
def test_a_plan_is_for_the_cache_that_it_was_made_under(kept: bool) -> None:
    model = Function(twice)
    with half(kept):
        plan = pebble.optimize(
            model, X, budget_gb=1, optimizer=None, solver="recompute_all", costs="flops"
        )
        planned = plan.apply(model)
    assert plan.validate(repeats=1).ok_bitwise  # eager beside it has the cache of the plan
    step(planned, lambda: half(kept))
    with pytest.raises(PlanMismatch, match="cast weights were"):
        step(planned, lambda: half(not kept))


def test_where_no_weight_is_cast_again_the_cache_is_all_one() -> None:
    once = Function(lambda m, x: m.first(x))
    with half():
        planned = build(once, captured := capture(once, (X,)), everything_again(captured.graph))
    eager = step(copy.deepcopy(once), lambda: half(False))
    assert all(map(torch.equal, step(planned, lambda: half(False))[3:], eager[3:]))


def test_whoever_plans_by_itself_plans_anew_for_another_cache() -> None:
    model = Function(twice)
    eager = copy.deepcopy(model)
    planned = pebble.budgeted(model, budget_gb=1, optimizer=None, display=False)
    for kept in (True, False, True):
        for module in (planned, eager):
            module.zero_grad()
        found, expected = step(planned, partial(half, kept)), step(eager, partial(half, kept))
        assert all(map(torch.equal, found[3:], expected[3:]))
    assert pebble.status(planned).plans_made == 2


def test_a_backward_inside_of_autocast_is_told_once() -> None:
    model = Function(twice)
    planned = pebble.budgeted(model, budget_gb=1, optimizer=None, display=False)
    with half(), pytest.warns(PebbleWarning, match="inside torch.autocast") as told:
        for _ in range(2):
            planned(X).float().square().mean().backward()
            planned.zero_grad()
    assert len([w for w in told if "inside torch.autocast" in str(w.message)]) == 1
