"""A module that plans by itself keeps the budget while its steps are measured, not only after."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pebble
from pebble.measure.slot_tensors import slot_tensors, with_views
from pebble.measure.step import trace_step
from pebble.tracing.inputs import Inputs
from tests.loop_meter import LoopMeter


def _block() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.Dropout(0.1), nn.GELU())


def _peaks(
    budget: int | None, monkeypatch: pytest.MonkeyPatch, rows: tuple[int, ...] = (512, 512, 300)
) -> tuple[int, list[torch.Tensor]]:
    """Bytes of a whole loop, from before the first call on; the parameters after it."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(*[_block() for _ in range(6)])
    batches = [torch.randn(n, 64) for n in rows]
    there = sum(p.nbytes for p in model.parameters()) + sum(b.nbytes for b in batches)
    if budget is not None:
        model = pebble.budgeted(
            model, budget_bytes=budget, optimizer="adamw", time_limit=3, display=False
        )
    optimizer = torch.optim.AdamW(model.parameters())

    def loop() -> None:
        for batch in batches:
            model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    peak = there + LoopMeter().peak(loop, monkeypatch)
    if budget is not None:
        assert pebble.status(model).planned_calls == len(rows)
    return peak, [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("share", [0.45, 0.7])
@pytest.mark.filterwarnings("ignore::pebble.PebbleWarning")  # the loss outside of a small budget
def test_a_loop_is_within_its_budget_from_the_first_call_on(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, eager = _peaks(None, monkeypatch)
    budget = int(share * whole)
    peak, planned = _peaks(budget, monkeypatch)
    beside = 2 * 300 * 64 * 4 + 512 * 64 * 4 * 3  # batches that wait, the mean's square outside
    assert peak <= budget + beside < whole
    assert all(map(torch.equal, planned, eager))


def test_a_step_that_has_room_is_run_in_one_piece() -> None:
    """And one that has none op by op; both weigh the same."""
    net, x = nn.Sequential(*[_block() for _ in range(3)]), torch.randn(64, 64)
    whole = trace_step(net, x)
    fits = trace_step(net, x, room_bytes=2 * whole.footprint.unplanned_peak)
    alone = trace_step(net, x, room_bytes=whole.footprint.unplanned_peak // 2)
    for step in (fits, alone):
        assert step.workspace_measured
        assert step.footprint.unplanned_peak == whole.footprint.unplanned_peak
        assert [op.workspace for op in step.graph.ops] == [op.workspace for op in whole.graph.ops]


def test_parameters_are_not_made_a_second_time() -> None:
    net, x = nn.Sequential(nn.Linear(8, 8), nn.GELU()), torch.randn(4, 8)
    captured = trace_step(net, x).captured
    tensors = slot_tensors(captured, net, Inputs((x,), {}))
    assert tensors is not None
    views = with_views(captured, tensors)
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert len(views) > len(tensors)  # the transposed weight of the product
    found = [t.untyped_storage().data_ptr() for n, t in views.items() if n not in tensors]
    assert set(found) <= own | {x.untyped_storage().data_ptr()}
