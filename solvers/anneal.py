"""Simulated annealing over free orders, with any number of recomputations.

The schedule is a sequence of executions. A trial adds, removes or moves one of them (or a chain of
recomputations that feed each other), the memory profile is kept up to date, and bytes over the
budget are paid for. After Imanishi et al., "A fast heuristic to optimize time-space tradeoff for
large models" (NeurIPS 2023). Cooling runs of many kinds come in rounds of two; after each round the
best schedule is handed on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register

if TYPE_CHECKING:
    from pebble.solvers.annealing.cooling import Cooling, Order, Outcome
    from pebble.solvers.annealing.kernels.board import Net

MANY, HUGE = 300, 1_000
"""Ops from which few runs find a good arrangement, and from which new ones are hardly worth it."""
WIDE = 0.02
"""A gap to the bound that calls for another arrangement."""
RUNS = 2
"""Cooling runs of a round, whatever the number of threads: it is part of what a seed means."""


@register("anneal")
def anneal(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    start: Schedule | Iterable[Schedule] = (),
    iterations: int | None = None,
    threads: int = 2,
) -> Answer:
    """Anneal from given schedules and from scratch, in rounds, until the time is up.

    Parameters
    ----------
    problem : Problem
        Of either objective.
    time_limit : float
        Seconds. It stops a run between two chunks of trials, and shortens the last runs so that
        they still cool.
    seed : int
    report : callable
    start : Schedule or iterable of Schedule
        Schedules to begin from, within the budget or not. What has them twice or breaks a rule is
        left out. The reference order is always among them.
    iterations : int, optional
        So many trials in all, and no more: then a seed repeats itself wherever the time limit is
        not reached first.
    threads : int
        How many runs of a round go at once; the result does not depend on it.

    Returns
    -------
    Answer
        The cheapest schedule within the budget, or else the one closest to it. The bound is that
        of running every op once (or the largest working set).

    Raises
    ------
    InvalidArgument
        If `iterations` or `threads` is not positive.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> from pebble.solver import solve
    >>> tree = nx.DiGraph([(0, 6), (1, 6), (2, 7), (3, 7), (6, 8), (7, 8)])
    >>> tree.add_nodes_from([0, 1, 2, 3, 6, 7, 8])
    >>> solve(Problem(Graph.from_networkx(tree), 4), "anneal", iterations=20_000).objective
    7
    """
    for name, number in (("iterations", iterations), ("threads", threads)):
        if number is not None and number < 1:
            raise InvalidArgument(f"{name} is {number}; it must be at least 1.")
    search = Search(problem, seed=seed, report=report, deadline=time.perf_counter() + time_limit)
    for schedule in [start] if isinstance(start, Schedule) else start:
        search.offer(schedule.order, "start")
    search.run(iterations=iterations, threads=threads)
    return search.answer()


_compiling: list[threading.Thread] = []


def compiled(deadline: float) -> bool:
    """Wait for the compiled kernels until a deadline on `time.perf_counter`.

    They are compiled once a process, or read from disk, in a thread that outlives the deadline;
    compiling takes many seconds, and nothing can interrupt it.
    """
    if not _compiling:
        _compiling.append(threading.Thread(target=_compile_kernels, daemon=True))
        _compiling[0].start()
    if deadline == float("inf"):
        _compiling[0].join()
    else:
        _compiling[0].join(max(deadline - time.perf_counter(), 0.0))
    return not _compiling[0].is_alive()


def _compile_kernels() -> None:
    """Anneal a problem of two ops for a few trials."""
    from pebble.solvers.annealing.cooling import Cooling, cool, net_of

    ops = [Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))]
    problem = Problem(Graph(ops, [Value("a", 1), Value("b", 1)]), 2)
    cooling = Cooling(64, hot=0.1, cold=0.01, penalty=1.0, adds=64, removes=64, chain=128, seed=0)
    cool(problem, net_of(problem), (0, 1), cooling)


@dataclass
class Search:
    """Rounds of cooling runs on one problem, and the best that they and others have found.

    Attributes
    ----------
    problem : Problem
    seed : int
    deadline : float
        On `time.perf_counter`.
    report : callable
    target : int, optional
        A value of the objective at which to stop; for the cost, a bound proved in free order.
    best : the best order within the budget, or None
    closest : the order with the least peak
    pool : other orders worth starting from
    """

    problem: Problem
    seed: int = 0
    deadline: float = float("inf")
    report: Callable[[Progress], None] = lambda progress: None
    target: int | None = None
    began: float = field(default_factory=time.perf_counter)
    best: Order | None = None
    best_value: int = 0
    closest: Order | None = None
    closest_peak: int = 0
    pool: list[Order] = field(default_factory=list)
    trials: int = 0
    rounds: int = 0
    speed: float = 0.0

    def __post_init__(self) -> None:
        self._least_peak = self.problem.objective is Objective.PEAK
        trivial = (
            self.problem.working_set_bound if self._least_peak else self.problem.graph.total_cost
        )
        self.target = trivial if self.target is None else max(self.target, trivial)
        self.offer(tuple(range(len(self.problem.graph.ops))), "reference order")

    # -- what is known ---------------------------------------------------------------------

    def offer(self, order: Order, source: str) -> bool:
        """Take an order from anywhere into account; whether it is the best so far."""
        try:
            trace = simulate(self.problem, Schedule(order))
        except InvalidSchedule:
            return False
        if self.closest is None or trace.peak < self.closest_peak:
            self.closest, self.closest_peak = order, trace.peak
        if order not in self.pool:
            self.pool.append(order)
        value = self._value(trace)
        if trace.peak > self.problem.budget or not (self.best is None or value < self.best_value):
            return False
        self.best, self.best_value = order, value
        self._tell(source)
        return True

    def prove(self, bound: int) -> None:
        """No schedule of any order is better than this."""
        if bound > self.bound:
            self.target = max(self.target or 0, bound)
            self._tell("bound")

    @property
    def bound(self) -> int:
        """What is known to be a lower bound on the cost, in free order."""
        least = self.problem.graph.total_cost
        return least if self._least_peak else max(self.target or 0, least)

    def _tell(self, source: str) -> None:
        cost = None
        if self.best is not None:
            cost = simulate(self.problem, Schedule(self.best)).cost
        seconds = time.perf_counter() - self.began
        self.report(Progress(seconds, cost, self.bound, source))

    def _value(self, trace: Trace) -> int:
        return trace.peak if self._least_peak else trace.cost

    @property
    def done(self) -> bool:
        """Whether nothing better exists."""
        return self.best is not None and self.best_value <= (self.target or 0)

    def answer(self) -> Answer:
        """The best schedule, or the closest one."""
        order = self.best if self.best is not None else self.closest
        return Answer(None if order is None else Schedule(order))

    # -- the rounds ------------------------------------------------------------------------

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
        from pebble.solvers.annealing.cooling import net_of

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
        keep = sorted(self.pool, key=self._rank)[:4]
        self.pool = keep

    def _rank(self, order: Order) -> tuple[bool, int]:
        trace = simulate(self.problem, Schedule(order))
        over = trace.peak > self.problem.budget
        return over, trace.peak if over or self._least_peak else trace.cost

    # -- what to do next -------------------------------------------------------------------

    def _plan(self, worker: int, iterations: int | None) -> tuple[Order, Cooling]:
        rng = np.random.default_rng([self.seed, self.rounds, worker])
        trials = self._trials(rng)
        if iterations is not None:
            left = iterations - self.trials
            trials = min(trials, left // RUNS + (worker < left % RUNS))
        if self.speed:
            trials = min(trials, self._trials_left())
        if self._least_peak:
            return self._lower(rng, trials)
        if self.best is None or (rng.random() < self._fresh() and (self.rounds or worker)):
            return self._from_scratch(rng, trials)
        return self._from_best(rng, trials)

    def _fresh(self) -> float:
        """How often a run does not begin with the best plan, which a small gap praises."""
        n = len(self.problem.graph.ops)
        if n >= HUGE:
            return 0.1
        return 0.75 if n < MANY or self.best_value > (1 + WIDE) * self.bound else 0.5

    def _lower(self, rng: np.random.Generator, trials: int) -> tuple[Order, Cooling]:
        """A run for a lower peak: aimed below the best known, at the target if that is near."""
        order = self.best if self.best is not None else self.closest
        assert order is not None
        if self.rounds and rng.random() < 0.25:
            order = self.pool[int(rng.integers(len(self.pool)))]
        hot = 10 ** rng.uniform(-4, -2.5)
        cooling = self._cooling(rng, trials, hot, hot / 30, 10 ** rng.uniform(-0.5, 0.7))
        known = self.closest_peak if self.best is None else self.best_value
        aim = int(known * (1 - 10 ** rng.uniform(-3, -0.5)))
        return order, replace(
            cooling,
            thrift=10 ** rng.uniform(-4, -1.5),
            drop=10 ** rng.uniform(-5, -2),
            budget=max(min(aim, self.problem.budget), self.target or 0),
        )

    def _trials(self, rng: np.random.Generator) -> int:
        n = len(self.problem.graph.ops)
        each = 200 if self._least_peak else 1_000
        first, most = min(60_000 + each * n, 1_500_000), max(40_000 * n, 2_000_000)
        if first << self.rounds < most:
            return first << self.rounds
        return int(most * 2.0 ** -rng.uniform(0, 3))

    def _trials_left(self) -> int:
        """What fits before the deadline at the speed so far, so that the last runs cool too."""
        left = (self.deadline - time.perf_counter()) * self.speed
        return int(min(0.95 * left, 2**50))

    def _from_scratch(self, rng: np.random.Generator, trials: int) -> tuple[Order, Cooling]:
        order = self.pool[int(rng.integers(len(self.pool)))]
        if rng.random() < 0.5:
            order = tuple(range(len(self.problem.graph.ops)))
        if len(self.problem.graph.ops) >= MANY and rng.random() < 0.7:
            # Where costs and excess weigh about the same: on graphs of many ops few other
            # settings find a good arrangement before they freeze.
            hot = 10 ** rng.uniform(-2.5, -1.5)
            return order, self._cooling(rng, trials, hot, 1e-5, hot * 10 ** rng.uniform(0.7, 1.3))
        hot = 10 ** rng.uniform(-3, -1)
        cold = min(10 ** rng.uniform(-5, -3), hot / 10)
        return order, self._cooling(rng, trials, hot, cold, 10 ** rng.uniform(-1.5, 1))

    def _from_best(self, rng: np.random.Generator, trials: int) -> tuple[Order, Cooling]:
        assert self.best is not None
        hot = 10 ** rng.uniform(-1.5, 0.7) / len(self.problem.graph.ops)
        cold = hot * 10 ** rng.uniform(-2.5, -1)
        return self.best, self._cooling(rng, trials, hot, cold, 10 ** rng.uniform(-2, 1))

    @staticmethod
    def _cooling(
        rng: np.random.Generator, trials: int, hot: float, cold: float, penalty: float
    ) -> Cooling:
        from pebble.solvers.annealing.cooling import Cooling

        adds = int(rng.integers(12, 90))
        return Cooling(
            trials=trials,
            hot=hot,
            cold=cold,
            penalty=penalty,
            adds=adds,
            removes=int(adds * rng.uniform(1.0, 1.7)),
            chain=int(rng.choice([0, 96, 160, 224])),
            seed=int(rng.integers(2**62)),
        )
