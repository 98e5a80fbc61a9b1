"""What kernels of a card take while they run, from tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.measure.memory import library_workspace
from pebble.measure.workspaces import measure_workspaces
from pebble.tracing.step_form import StepForm

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a card is at hand")


class Attends(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.keys = nn.Linear(64, 64 * groups // 4)
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = lambda t, n: t.unflatten(-1, (n, 16)).transpose(1, 2)  # noqa: E731
        y = cut(self.keys(x), self.groups)
        return F.scaled_dot_product_attention(cut(x, 4), y, y, enable_gqa=self.groups < 4).sum()


def inside(card: str, model: nn.Module, x: torch.Tensor) -> dict[str, int]:
    captured = StepForm(card=card).capture(model, (x,), {})
    found = measure_workspaces(captured)
    assert not found.measured and found.sizes == tuple(v.size for v in captured.graph.values)
    names = [op.kind.partition("(")[0] for op in captured.graph.ops]
    return {name: size for name, size in zip(names, found.bytes, strict=True) if size}


@pytest.mark.parametrize("groups, spread", [(4, 0), (2, 2 * 2 * 100 * 4 * 16 * 2)])
def test_flash_adds_up_in_full_precision(groups: int, spread: int) -> None:
    x = torch.ones(2, 100, 64, dtype=torch.float16)
    name = "aten._scaled_dot_product_flash_attention_backward.default"
    # Rows rounded up to 128, heads of 16 to 32; sums of the rows; keys by the queries' heads.
    rows = 2 * 4 * 128
    assert inside("a100", Attends(groups).half(), x) == {name: rows * (32 + 1) * 4 + spread}


def test_efficient_does_too() -> None:
    name = "aten._scaled_dot_product_efficient_attention_backward.default"
    found = inside("t4", Attends(4), torch.ones(2, 100, 64))
    assert found == {name: 2 * 4 * (128 * 64 + 100) * 4}


def test_many_indices_are_sorted() -> None:
    ids = torch.zeros(4, 1000, dtype=torch.long)
    net = nn.Embedding(50, 8)
    assert inside("t4", net, ids) == {"aten.embedding_dense_backward.default": 4 * 4000 * 8}
    assert inside("t4", net, ids[:, :700]) == {}


def test_cublas() -> None:
    assert library_workspace("cpu", "t4") == 0
    assert library_workspace("cuda:0", "t4") == 2 * 8_519_680
    assert library_workspace("cuda:0", "h200") == 2 * 32 * 2**20
