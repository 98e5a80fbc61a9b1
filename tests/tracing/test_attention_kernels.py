"""The choice of a kernel for attention, by card, precision, mask and sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pebble.tracing.attention_kernels import Attention, Libraries, kernel_for

NOW = Libraries((2, 13), 91900)
CARDS = (75, 80, 86, 89, 90)
FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16


def heads(
    dtype: torch.dtype, width: int = 64, rows: int = 128, number: int = 4, trains: bool = True
) -> torch.Tensor:
    shape = 2, number, rows, width
    return torch.empty(shape, dtype=dtype, device="meta").requires_grad_(trains)


def call(dtype: torch.dtype, width: int = 64, **more: object) -> Attention:
    x = heads(dtype, width)
    return replace(Attention(x, x, x), **more)  # type: ignore[arg-type]


def chosen(call: Attention, libraries: Libraries = NOW) -> list[str]:
    return [kernel_for(call, sm, libraries) for sm in CARDS]


def test_precisions() -> None:
    assert chosen(call(FP32)) == ["efficient"] * 5
    assert chosen(call(FP16)) == ["efficient", "flash", "flash", "flash", "cudnn"]
    assert chosen(call(BF16)) == ["math", "flash", "flash", "flash", "cudnn"]
    assert chosen(call(torch.float64)) == ["math"] * 5


def test_masks() -> None:
    mask = torch.empty(128, 128, dtype=BF16, device="meta")
    assert chosen(call(BF16, mask=mask)) == ["math", *["efficient"] * 3, "cudnn"]
    learnt = mask.clone().requires_grad_()
    assert chosen(call(BF16, mask=learnt))[-1] == "efficient"
    assert chosen(call(FP16, mask=mask.t().half())) == ["math"] * 5  # its rows are not in order


def test_widths_of_heads() -> None:
    assert chosen(call(FP16, 60)) == ["math", "flash", "flash", "flash", "flash"]
    assert chosen(call(FP32, 60)) == ["efficient"] * 5
    assert chosen(call(FP32, 6)) == ["efficient", *["math"] * 4]
    assert chosen(call(BF16, 216)) == ["math", "flash", "efficient", "efficient", "cudnn"]
    assert chosen(call(BF16, 256, dropout=0.25)) == [
        "math", "flash", "efficient", "efficient", "cudnn",
    ]  # fmt: skip


def test_dropout_in_sixteenths() -> None:
    tenth, quarter = call(BF16, dropout=0.1), call(BF16, dropout=0.25)
    assert (chosen(tenth)[-1], chosen(quarter)[-1]) == ("flash", "cudnn")
    assert chosen(tenth, Libraries((2, 11), 91900))[-1] == "cudnn"
    assert chosen(quarter, Libraries((2, 11), 91200))[-1] == "flash"


def test_groups_of_heads() -> None:
    few = heads(FP16, number=2)
    grouped = replace(call(FP16), key=few, value=few, grouped=True)
    assert chosen(grouped) == ["math", "flash", "flash", "flash", "cudnn"]
    assert chosen(replace(grouped, grouped=False)) == ["math"] * 5


def test_rows() -> None:
    few = heads(BF16, rows=64)
    causal = replace(call(BF16), query=few, causal=True)
    assert chosen(causal) == ["math", *["efficient"] * 3, "cudnn"]
    one = heads(BF16, rows=1)
    assert chosen(replace(call(BF16), key=one, value=one))[-1] == "flash"


def test_what_is_switched_off() -> None:
    without = replace(NOW, allowed=frozenset(("efficient", "math")))
    assert chosen(call(FP16), without) == ["efficient"] * 5
    assert chosen(call(BF16), replace(NOW, deterministic=True))[-1] == "flash"
    assert chosen(call(BF16), replace(NOW, cudnn=91002))[-1] == "flash"


@pytest.mark.parametrize("name", ["flash", "efficient"])
def test_evaluation_takes_the_same(name: str) -> None:
    x = heads(FP16, 216, trains=False)
    assert kernel_for(Attention(x, x, x), 86, NOW) == "flash"
    assert kernel_for(call(FP16, 216), 86, NOW) == "efficient"
