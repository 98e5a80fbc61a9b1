"""Costs: counted work, rooflines, measured times."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.errors import InvalidArgument
from pebble.measure.costs import DEVICES, op_costs, op_flops
from pebble.measure.flops import work_of
from pebble.tracing import Captured, capture


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(32, 96)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.project(x).view(2, 16, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        return self.drop(F.gelu(mixed)).square().mean()


@pytest.fixture(scope="module")
def attention() -> Captured:
    return capture(Attention().train(), (torch.randn(2, 16, 32),))


def by_kind(captured: Captured, numbers: list[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for op, nodes, number in zip(captured.graph.ops, captured.op_nodes, numbers, strict=True):
        found.setdefault(str(nodes[0].target) if nodes else op.kind, []).append(number)
    return found


def test_flops_of_products_and_attention(attention: Captured) -> None:
    flops = by_kind(attention, op_flops(attention))
    assert flops["aten.addmm.default"] == [2 * 32 * 32 * 96]
    scores = 2 * 2 * 4 * 16 * 16 * 8
    assert flops["aten._scaled_dot_product_flash_attention_for_cpu.default"] == [2 * scores]
    assert flops["aten._scaled_dot_product_flash_attention_for_cpu_backward.default"] == [
        5 * scores
    ]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_flops_of_convolutions(groups: int, transposed: bool) -> None:
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(4, 6, 3, groups=groups)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    captured = capture(layer, (x,))
    flops = by_kind(captured, op_flops(captured))
    side = 8 if transposed else 6  # each input (output) position meets the whole filter
    forward = 2 * 2 * side * side * 9 * 4 * 6 // groups
    assert flops["aten.convolution.default"] == [forward]
    assert flops["aten.convolution_backward.default"] == [2 * forward]


@pytest.mark.parametrize("device", DEVICES)
def test_roofline_is_never_below_the_traffic(attention: Captured, device: str) -> None:
    costs = op_costs(attention, f"roofline:{device}")
    for nodes, cost in zip(attention.op_nodes, costs, strict=True):
        if nodes:
            work = work_of(nodes[0])
            assert cost > 0
            assert cost >= int(work.bytes / DEVICES[device].bandwidth)
    assert costs[attention.graph.boundary] == 0


def test_flops_costs_do_not_depend_on_the_device(attention: Captured) -> None:
    costs = op_costs(attention, "flops")
    assert sum(cost == 0 for cost in costs) == 1
    work = work_of(next(n[0] for n in attention.op_nodes if n))
    assert costs[0] == round(work.flops / 1e5 + work.bytes / 1e3) or costs[0] == 1


def test_auto_is_the_roofline_of_the_inputs_device(attention: Captured) -> None:
    assert op_costs(attention) == op_costs(attention, "roofline:cpu")
    assert op_costs(attention, "roofline:t4") != op_costs(attention, "roofline:h100")


def test_half_precision_products_run_faster_where_the_device_has_units_for_it() -> None:
    def product(dtype: torch.dtype, device: str) -> int:
        layer = nn.Linear(512, 512, bias=False).to(dtype)
        captured = capture(layer, (torch.randn(4096, 512, dtype=dtype),))
        return max(op_costs(captured, f"roofline:{device}"))

    half, single = product(torch.bfloat16, "a100"), product(torch.float32, "a100")
    assert half < single / 5
    assert product(torch.bfloat16, "t4") > product(torch.float16, "t4") * 2


def test_a_repeated_dimension_is_read_once() -> None:
    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1024))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.bias.expand(64, 1024)

    captured = capture(Bias(), (torch.randn(64, 1024),))
    add = next(n[0] for n in captured.op_nodes if n and "add" in str(n[0].target))
    assert work_of(add).bytes == 4 * (2 * 64 * 1024 + 1024)


def test_profile_measures_and_keeps_the_random_state(attention: Captured) -> None:
    before = torch.get_rng_state()
    costs = op_costs(attention, "profile")
    assert torch.equal(before, torch.get_rng_state())
    assert costs.count(0) == 1
    assert op_costs(attention, "profile") == costs, "each distinct op is timed once a process"


def test_a_longer_op_costs_more_when_measured() -> None:
    def slowest(rows: int) -> int:
        captured = capture(nn.Linear(256, 256), (torch.randn(rows, 256),))
        return max(op_costs(captured, "profile"))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, a busy machine times its scheduler
    try:
        assert slowest(4096) > 4 * slowest(32)
    finally:
        torch.set_num_threads(threads)


def test_profile_of_fake_tensors_says_what_to_choose() -> None:
    with FakeTensorMode():
        captured = capture(nn.Linear(4, 4), (torch.randn(2, 4),))
        assert len(op_costs(captured, "roofline:a100")) == len(captured.graph.ops)
        with pytest.raises(InvalidArgument, match="roofline:<device>"):
            op_costs(captured, "profile")


@pytest.mark.parametrize("costs", ["fast", "roofline", "roofline:abacus"])
def test_unknown_costs_list_the_choices(attention: Captured, costs: str) -> None:
    with pytest.raises(InvalidArgument, match=r"profile.*a100"):
        op_costs(attention, costs)
