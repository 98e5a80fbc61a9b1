"""Generated code: constants of all kinds, and scalars that keep nothing else alive."""

from __future__ import annotations

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from pebble.runtime.boxed_code import compile_boxed, shrink


def test_a_scalar_does_not_keep_the_storage_it_was_reduced_in() -> None:
    a, b = torch.randn(50), torch.randn(50)
    loss = F.mse_loss(a, b)
    small = shrink(loss)
    assert small.untyped_storage().nbytes() == 4
    assert torch.equal(small, loss)
    assert shrink(small) is small


def test_constants_of_all_kinds_survive_the_writing() -> None:
    def f(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        low = torch.full((2,), float("-inf"), dtype=torch.float64)
        parts = torch.cat([x.to(torch.bfloat16).float(), torch.arange(3.0)]).split([2, 4])
        return low, parts[1] * -0.0, x.clamp(min=1), x.contiguous()[None].expand(2, -1)

    x = torch.randn(3)
    arguments = [x]
    for a, b in zip(f(x), compile_boxed(make_fx(f)(x))(arguments), strict=True):
        assert torch.equal(a, b)
        assert a.dtype is b.dtype
