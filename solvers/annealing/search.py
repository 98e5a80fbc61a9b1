"""Rounds of cooling runs on one problem."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pebble.solvers.annealing.compilation import compiled
from pebble.solvers.annealing.next_runs import RUNS, next_run, trials_of_round
from pebble.solvers.annealing.pool import Pool
from pebble.solvers.annealing.runs import Cooling, Order, Outcome

if TYPE_CHECKING:
    from pebble.solvers.annealing.kernels.board import Net


@dataclass
class Search(Pool):
    """Rounds of cooling runs, and the best that they and others have found.

    Attributes
    ----------
    trials, rounds : int
        Made so far.
    speed : float
        Trials a second of one run, in the last round.
    """

    trials: int = 0
    rounds: int = 0
    speed: float = 0.0

    def run(
        self,
        *,
        iterations: int | None = None,
        rounds: int | None = None,
        threads: int = 2,
    ) -> None:
        """Anneal until the deadline, the bound, or so many trials or rounds."""
        if not compiled(self.deadline):
            return
        from pebble.solvers.annealing.boards import net_of

        net = net_of(self.problem)
        last_round = None if rounds is None else self.rounds + rounds
        with ThreadPoolExecutor(max(1, min(threads, RUNS, os.cpu_count() or 1))) as executor:
            while not self.done and time.perf_counter() < self.deadline:
                if self.rounds == last_round:
                    break
                plans = [self._plan(worker, iterations) for worker in range(RUNS)]
                if all(cooling.trials == 0 for _, cooling in plans):
                    break
                began = time.perf_counter()
                futures = [executor.submit(self._cool, net, *plan) for plan in plans]
                outcomes = [future.result() for future in futures]
                self._take(outcomes, time.perf_counter() - began)

    def _cool(self, net: Net, order: Order, cooling: Cooling) -> Outcome:
        from pebble.solvers.annealing.cooling import cool

        return cool(
            self.problem, net, order, cooling, deadline=self.deadline, enough=self.target or 0
        )

    def _take(self, outcomes: list[Outcome], seconds: float) -> None:
        self.rounds += 1
        made = sum(outcome.trials for outcome in outcomes)
        self.trials += made
        self.speed = made / max(seconds, 1e-9) / RUNS
        for outcome in outcomes:
            self.offer(outcome.best if outcome.best is not None else outcome.last, "anneal")
        self.narrow()

    def _plan(self, worker: int, iterations: int | None) -> tuple[Order, Cooling]:
        rng = np.random.default_rng([self.seed, self.rounds, worker])
        trials = trials_of_round(self, rng, self.rounds)
        if iterations is not None:
            left = iterations - self.trials
            trials = min(trials, left // RUNS + (worker < left % RUNS))
        if self.speed:
            trials = min(trials, self._trials_left())
        return next_run(self, rng, trials, rounds=self.rounds, worker=worker)

    def _trials_left(self) -> int:
        """What fits before the deadline at the speed so far, so that the last runs cool too."""
        left = (self.deadline - time.perf_counter()) * self.speed
        return int(min(0.95 * left, 2**50))
