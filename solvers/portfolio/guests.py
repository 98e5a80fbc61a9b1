"""Other people's solvers in the portfolio: asked once, judged by the referee, never trusted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Halt, Registration, registrations, solve

SHARE = 0.25
"""Of the time that is left, for all guests together."""
LEAST = 0.1
"""Seconds for a guest where the time is up."""
GRACE = 0.1
"""Seconds that a guest may take beyond its share before the search goes on without it."""

_log = logging.getLogger(__name__)
_visiting = threading.local()


def guests() -> list[Registration]:
    """The solvers that are to be asked; none while one of them runs."""
    if getattr(_visiting, "busy", False):
        return []
    return [entry for entry in registrations() if entry.portfolio]


def seconds_kept(deadline: float) -> float:
    """Seconds until the deadline that are kept for guests."""
    return SHARE * max(deadline - time.perf_counter(), 0.0) if guests() else 0.0


def invite(
    problem: Problem,
    known: Sequence[Schedule],
    offer: Callable[[Schedule, str], object],
    *,
    deadline: float,
    seed: int,
    threads: int,
) -> str:
    """Ask every solver that registered with ``portfolio=True`` for a schedule.

    Of an answer its schedule counts, where the referee's replay is within the budget. Its bound and
    a proof that nothing fits are not taken over: nothing here can check them. A guest that calls
    `auto` itself finds no guests there.

    Parameters
    ----------
    known : sequence of Schedule
        What a guest may start from.
    offer : callable
        Takes a schedule within the budget and the name of who found it.
    deadline : float
        On `time.perf_counter`.

    Returns
    -------
    str
        One sentence for each guest that raised, broke the rules or did not come back in time,
        which is logged, too.
    """
    asked = guests()
    end = time.perf_counter() + seconds_kept(deadline)
    complaints = []
    for k, entry in enumerate(asked):
        left = max(end - time.perf_counter(), LEAST)
        options = {"start": tuple(known), "threads": threads, "halt": Halt()}
        visit = _Visit(problem, entry, left / (len(asked) - k), seed)
        visit.run(entry.capabilities.select(options))
        if visit.found is not None:
            offer(visit.found, entry.name)
        if visit.complaint:
            complaints.append(visit.complaint)
            _log.warning(visit.complaint, exc_info=visit.error)
    return " ".join(complaints)


class _Visit:
    """One call of one guest, in a thread that the search need not wait for."""

    def __init__(self, problem: Problem, entry: Registration, seconds: float, seed: int) -> None:
        self.problem, self.entry, self.seconds, self.seed = problem, entry, seconds, seed
        self.found: Schedule | None = None
        self.error: BaseException | None = None
        self.complaint = ""

    def run(self, options: dict[str, object]) -> None:
        """Call it, and wait for its share of the time."""
        thread = threading.Thread(target=self._solve, args=(options,), daemon=True)
        thread.start()
        thread.join(self.seconds + GRACE)
        halt = options.get("halt")
        if thread.is_alive() and isinstance(halt, Halt):
            halt.call()
            thread.join(GRACE)
        if thread.is_alive():
            self.complaint = (
                f"Solver {self.entry.name!r} in the portfolio was still running after its "
                f"{self.seconds:.1f} s."
            )
        elif self.error is not None:
            kind = type(self.error).__name__
            self.complaint = f"Solver {self.entry.name!r} in the portfolio: {kind}: {self.error}"

    def _solve(self, options: dict[str, object]) -> None:
        _visiting.busy = True
        try:
            self.found = solve(
                self.problem,
                self.entry.solver,
                time_limit=self.seconds,
                seed=self.seed,
                **options,  # type: ignore[arg-type]
            ).schedule
        except BaseException as error:  # whatever a stranger's code raises, SystemExit, too
            self.error = error
