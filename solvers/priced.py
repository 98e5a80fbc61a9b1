"""Least recomputation for one budget: the price of memory is found by bisection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.bounds.moment_cuts import cost_lower_bound
from pebble.solvers.edits.borders import choose_borders, crossers
from pebble.solvers.edits.halves import crossing_bytes
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.edits.minimum_cuts import BoolArray, MemoryPrice, PricedChoice
from pebble.solvers.edits.recompute_once import RecomputeOnce
from pebble.solvers.edits.repair import Repair
from pebble.solvers.edits.retention import filled

SEGMENTS = (1, 8, 5, 10, 3, 16, 32)
"""Numbers of segments whose borders are saved in any case, the most promising first."""
CLOSE = 0.0005
"""A gap that is good enough."""
REPAIRS = 24
"""Near misses that are repaired where the price alone comes to no good plan."""
SHORT = 1.0
"""Seconds for repairs where the gap is below a thousandth already."""
_PROBES = 12


@register(
    "priced",
    summary=(
        "a price for memory by bisection over minimum cuts, near misses "
        "repaired, room filled up: tenths of a second on thousands of ops"
    ),
    bound="any order",
)
def priced(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    report: Callable[[Progress], None] | None = None,
    repair: bool = True,
) -> Answer:
    """The cheapest schedule around those that recompute each op at most once, by one price.

    At a price for memory a minimum cut says what to recompute (see `MemoryPrice`). The price at
    which the schedule just fits the budget is found by bisection, between the two choices on both
    sides of it a mixture is found in the same way, op by op. All this within segments between
    saved borders, for several numbers of segments: `greedy` in depth at one budget, where that one
    goes over all budgets at once. Tens of replays in all, whatever the size of the graph. What fits
    is filled up (see `filled`); where the gap stays open, near misses are repaired (see `Repair`),
    which computes some ops more than twice.

    The bisection trusts that a dearer choice takes less memory. Where it does not, a larger budget
    may cost more: hand on the plans of smaller ones, as sweeps do. The bound holds for any order
    (see `cost_lower_bound`).

    Parameters
    ----------
    repair : bool
        Whether near misses are repaired.
    """
    best = Incumbent(problem, "priced", report)
    best.offer(Schedule.keep_all(problem.graph))
    if best.fits or not problem.may_repeat.any():
        return best.answer()
    search = _Bisection(problem, best, time_limit)
    repair = repair and problem.objective is Objective.COST
    for keep in search.segmentations():
        search.descend(keep)
        search.fill()
        if search.late or search.bound is None or search.close:
            break
        if repair and not best.fits:
            search.repair(1)
    if repair and search.bound is not None and not search.close:
        search.repair(REPAIRS, SHORT if search.nearly_close else time_limit)
    if search.bound is None:
        message = "What one moment must hold exceeds the budget, in any order."
        return replace(best.answer(message), infeasible=True)
    return replace(best.answer(), lower_bound=search.bound)


class _Bisection:
    """Replays of choices of one problem, each once, and the search along their price."""

    def __init__(self, problem: Problem, best: Incumbent, time_limit: float) -> None:
        self.problem, self.best = problem, best
        self.recompute = RecomputeOnce(problem.graph)
        self.network = MemoryPrice(self.recompute, problem.may_repeat)
        self._deadline = time.perf_counter() + time_limit
        self._known: dict[bytes, bool] = {}
        self._misses: dict[tuple[int, int], Schedule] = {}

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self._deadline

    @cached_property
    def bound(self) -> int | None:
        """No schedule within the budget costs less; None: there is none."""
        return cost_lower_bound(self.problem) if self.problem.objective is Objective.COST else 0

    @property
    def close(self) -> bool:
        """Whether more segmentations could not gain anything worth their time."""
        return self.best.fits and self.best.cost <= (1 + CLOSE) * (self.bound or 0)

    @property
    def nearly_close(self) -> bool:
        """Whether repairs could not gain anything worth much time."""
        return self.best.fits and self.best.cost <= (1 + 2 * CLOSE) * (self.bound or 0)

    def _hopeless(self, choice: PricedChoice) -> bool:
        """Whether what is dearer than this choice is dearer than the best known."""
        total = self.problem.graph.total_cost
        return self.best.fits and total + choice.share * total >= self.best.cost

    def segmentations(self) -> Iterator[BoolArray]:
        """For each number of segments the ops whose results cross a border."""
        crossing = crossing_bytes(self.problem.graph, self.recompute.split)
        seen = set()
        for count in SEGMENTS:
            borders = choose_borders(self.problem.graph, crossing, count)
            if borders not in seen:
                seen.add(borders)
                yield crossers(self.recompute, borders)

    def fits(self, again: BoolArray) -> bool:
        """Whether the schedule that recomputes these ops fits; the incumbent sees it."""
        key = again.tobytes()
        if key not in self._known:
            schedule = self.recompute.schedule(again.tolist())
            trace = simulate(self.problem, schedule)
            self.best.offer(schedule, trace)
            self._known[key] = trace.peak <= self.problem.budget
            if not self._known[key]:
                self._misses[trace.peak, trace.cost] = schedule
        return self._known[key]

    def fill(self) -> None:
        """Keep what there is room for beside the incumbent."""
        if self.best.fits and self.best.schedule is not None:
            self.best.offer(filled(self.problem, self.best.schedule))

    def repair(self, most: int, seconds: float = float("inf")) -> None:
        """Repair the nearest of the misses that cost less than the incumbent, each only once."""
        deadline = min(self._deadline, time.perf_counter() + seconds)
        repair = Repair(self.problem, deadline)
        hopeful = [miss for miss in sorted(self._misses) if self._hopeful(miss)]
        for miss in hopeful[:most]:
            schedule = self._misses.pop(miss)
            for far in (0.0, 0.5):
                in_time = time.perf_counter() < deadline and self._hopeful(miss)
                fitting = repair.fit(schedule, far) if in_time else None
                if fitting is not None:
                    self.best.offer(filled(self.problem, fitting))

    def _hopeful(self, miss: tuple[int, int]) -> bool:
        return not self.best.fits or miss[1] < self.best.cost

    def descend(self, keep: BoolArray) -> None:
        """From both ends of the price to the two choices next to the budget, then between them."""
        low, high = self.network.ends(keep)
        if self.fits(low.again):
            return
        if not self.fits(high.again):
            # Recomputing nearly everything may take more memory than it frees.
            found = self._any_fit(low, high, keep)
            if found is None:
                return
            low, high = found
        while not self.late:
            if self._hopeless(low):
                return
            middle = self.network.between(low, high, keep)
            if middle is None:
                break
            if self.fits(middle.again):
                high = middle
            else:
                low = middle
        self._mix(low.again, high.again)

    def _any_fit(
        self, low: PricedChoice, high: PricedChoice, keep: BoolArray
    ) -> tuple[PricedChoice, PricedChoice] | None:
        """The first choice that fits, and its cheaper neighbour, going through prices evenly."""
        gaps = [(low, high)]
        for _ in range(_PROBES):
            if not gaps or self.late:
                break
            low, high = gaps.pop(0)
            middle = self.network.between(low, high, keep)
            if middle is None:
                continue
            if self.fits(middle.again):
                return low, middle
            gaps += [(middle, high), (low, middle)]
        return None

    def _mix(self, low: BoolArray, high: BoolArray) -> None:
        """Bisect the number of ops that change from the one that does not fit to the one that does.

        From the front: what is recomputed early in the forward half is recomputed last. And from
        the back.
        """
        differ = np.flatnonzero(low != high)
        for ops in (differ, differ[::-1]):
            least, most = 0, len(ops)
            while most - least > 1 and not self.late:
                middle = (least + most) // 2
                again = low.copy()
                again[ops[:middle]] = high[ops[:middle]]
                if self.fits(again):
                    most = middle
                else:
                    least = middle
