"""Plans of a block by what they keep between its halves, and a choice of one for each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pebble.graph import Graph
from pebble.measure.step import Step
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

_SHARES = (0.75, 0.5, 0.25, 0.1, 0.0)
"""Of what a block may keep beyond the least, one plan each."""
_STEPS = 512
"""What is kept is counted in so many parts of the room."""


@dataclass(frozen=True)
class BlockOption:
    """A way to run a block.

    Attributes
    ----------
    schedule : Schedule
    saved_bytes : int
        Held between the halves, its outputs and their gradient included.
    peak_bytes : int
        While one of the halves runs.
    cost : int
        Nanoseconds.
    """

    schedule: Schedule
    saved_bytes: int
    peak_bytes: int
    cost: int


def block_options(step: Step, time_limit: float) -> tuple[BlockOption, ...]:
    """Ways to run a block, what they keep falling and what they cost rising.

    A plan that keeps little is one whose room at the boundary of its halves is small, so the
    boundary is given a workspace that leaves just that.

    Parameters
    ----------
    step : Step
        Of the block alone.
    time_limit : float
        Seconds for all of them.
    """
    graph = step.graph
    kept = _option(graph, Schedule.keep_all(graph))
    options = [kept]
    least = solve(Problem(graph, 2**62), "recompute_all").schedule
    if least is not None and graph.boundary is not None:
        lowest = _option(graph, least)
        options.append(lowest)
        for share in _SHARES:
            room = lowest.saved_bytes + round(share * (kept.saved_bytes - lowest.saved_bytes))
            found = _keeping(graph, room, kept.peak_bytes, time_limit / len(_SHARES))
            if found is not None:
                options.append(_option(graph, found))
    options.sort(key=lambda option: (option.cost, option.saved_bytes, option.peak_bytes))
    return tuple(
        option
        for i, option in enumerate(options)
        if all(
            option.saved_bytes < cheaper.saved_bytes or option.peak_bytes < cheaper.peak_bytes
            for cheaper in options[:i]
        )
    )


def _keeping(graph: Graph, room: int, peak: int, time_limit: float) -> Schedule | None:
    """The cheapest schedule found that keeps so little, within a peak of the block."""
    workspaces = [op.workspace for op in graph.ops]
    assert graph.boundary is not None
    workspaces[graph.boundary] += max(peak - room, 0)
    return solve(
        Problem(graph.with_measures(workspaces=workspaces), peak), "priced", time_limit=time_limit
    ).schedule


def _option(graph: Graph, schedule: Schedule) -> BlockOption:
    trace = simulate(graph, schedule)
    at = None if graph.boundary is None else schedule.order.index(graph.boundary)
    saved = trace.peak if at is None else int(trace.live[at])
    return BlockOption(schedule, saved, trace.peak, trace.cost)


def chain_peak(chain: Sequence[BlockOption]) -> int:
    """The most that a chain of blocks holds: what one needs, and the blocks before it keep."""
    kept, peak = 0, 0
    for option in chain:
        peak = max(peak, kept + option.peak_bytes)
        kept += option.saved_bytes
    return peak


def choose(blocks: Sequence[Sequence[BlockOption]], room: int) -> list[BlockOption] | None:
    """The cheapest choice of one option a block, or None where no choice fits.

    While a block runs, forward or backward, there is what it needs and what the blocks before it
    keep.

    Parameters
    ----------
    blocks : sequence of sequence of BlockOption
        In the order of the forward.
    room : int
        Bytes for the chain.

    Examples
    --------
    >>> keep, again = BlockOption(None, 4, 5, 10), BlockOption(None, 1, 5, 13)
    >>> sorted(option.cost for option in choose([[keep, again]] * 3, 10))
    [10, 10, 13]
    """
    unit = max(room // _STEPS, 1)
    states: dict[int, tuple[int, tuple[BlockOption, ...]]] = {0: (0, ())}
    for options in blocks:
        reached: dict[int, tuple[int, tuple[BlockOption, ...]]] = {}
        for kept, (cost, chosen) in states.items():
            for option in options:
                if kept * unit + option.peak_bytes > room:
                    continue
                after = kept + -(-option.saved_bytes // unit)
                found = reached.get(after)
                if found is None or cost + option.cost < found[0]:
                    reached[after] = cost + option.cost, (*chosen, option)
        states = reached
    if not states:
        return None
    return list(min(states.values(), key=lambda state: state[0])[1])
