"""Plans of a block by what they keep, and the choice of one for each block of a chain."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from pebble.measure.step import trace_step
from pebble.plan.block_options import BlockOption, block_options, chain_peak, choose
from pebble.ranks import ALONE
from pebble.referee import simulate
from pebble.schedule import Schedule

NONE = Schedule(())


def test_options_keep_less_and_cost_more() -> None:
    block = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
    x = torch.randn(64, 32).requires_grad_()
    step = trace_step(block, x, optimizer=None, differentiate="all", ranks=ALONE)
    options = block_options(step, 4)
    assert len(options) >= 3
    assert options[0].schedule == Schedule.keep_all(step.graph)
    for option, cheaper in itertools.pairwise(reversed(options)):
        assert option.saved_bytes < cheaper.saved_bytes and option.cost > cheaper.cost
        trace = simulate(step.graph, option.schedule)
        at = option.schedule.order.index(step.graph.boundary)  # type: ignore[arg-type]
        assert (trace.peak, trace.live[at]) == (option.peak_bytes, option.saved_bytes)
    least = options[-1].saved_bytes
    assert least < options[0].saved_bytes / 2


def test_a_chain_holds_what_the_blocks_before_keep() -> None:
    small, large = BlockOption(NONE, 2, 3, 0), BlockOption(NONE, 5, 7, 0)
    assert chain_peak([large, small, small]) == 10
    assert chain_peak([small, small, large]) == 11


@pytest.mark.parametrize("room", [9, 12, 15, 20, 40])
def test_the_cheapest_choice_of_a_chain(room: int) -> None:
    first = [BlockOption(NONE, 6, 9, 10), BlockOption(NONE, 3, 9, 12), BlockOption(NONE, 1, 9, 17)]
    other = [BlockOption(NONE, 8, 10, 20), BlockOption(NONE, 2, 11, 23)]
    chain = [first, other, first, other]
    known = [c for c in itertools.product(*chain) if chain_peak(c) <= room]
    found = choose(chain, room)
    if not known:
        assert found is None
    else:
        assert found is not None and chain_peak(found) <= room
        assert sum(o.cost for o in found) == min(sum(o.cost for o in c) for c in known)
