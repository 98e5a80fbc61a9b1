"""What the next cooling run begins from, and how it cools: drawn at random, by what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pebble.solvers.annealing.pool import Pool
from pebble.solvers.annealing.runs import Cooling, Order

MANY, HUGE = 300, 1_000
"""Ops from which few runs find a good arrangement, and from which new ones are hardly worth it."""
WIDE = 0.02
"""A gap to the bound that calls for another arrangement."""
RUNS = 2
"""Cooling runs of a round, whatever the number of threads: it is part of what a seed means."""


def next_run(
    known: Pool, rng: np.random.Generator, trials: int, *, rounds: int, worker: int
) -> tuple[Order, Cooling]:
    """The order that a run begins with, and its parameters.

    Parameters
    ----------
    known : Pool
    rng : Generator
    trials : int
    rounds, worker : int
        Rounds that were made, and which run of the next one it is.
    """
    if known.least_peak:
        return _lower(known, rng, trials, again=rounds > 0)
    if known.best is None or (rng.random() < _fresh(known) and (rounds or worker)):
        return _from_scratch(known, rng, trials)
    return _from_best(known.best, known, rng, trials)


def trials_of_round(known: Pool, rng: np.random.Generator, rounds: int) -> int:
    """Trials of a run: twice as many in each round, then some number of that size."""
    n = len(known.problem.graph.ops)
    each = 200 if known.least_peak else 1_000
    first, most = min(60_000 + each * n, 1_500_000), max(40_000 * n, 2_000_000)
    if first << rounds < most:
        return first << rounds
    return int(most * 2.0 ** -rng.uniform(0, 3))


def _fresh(known: Pool) -> float:
    """How often a run does not begin with the best plan, which a small gap praises."""
    n = len(known.problem.graph.ops)
    if n >= HUGE:
        return 0.1
    return 0.75 if n < MANY or known.best_value > (1 + WIDE) * known.bound else 0.5


def _lower(
    known: Pool, rng: np.random.Generator, trials: int, *, again: bool
) -> tuple[Order, Cooling]:
    """A run for a lower peak: aimed below the best known, at the target if that is near."""
    order = known.best if known.best is not None else known.closest
    assert order is not None
    if again and rng.random() < 0.25:
        order = known.pool[int(rng.integers(len(known.pool)))]
    hot = 10 ** rng.uniform(-4, -2.5)
    cooling = _cooling(rng, trials, hot, hot / 30, 10 ** rng.uniform(-0.5, 0.7))
    least = known.closest_peak if known.best is None else known.best_value
    aim = int(least * (1 - 10 ** rng.uniform(-3, -0.5)))
    return order, replace(
        cooling,
        thrift=10 ** rng.uniform(-4, -1.5),
        drop=10 ** rng.uniform(-5, -2),
        budget=max(min(aim, known.problem.budget), known.target or 0),
    )


def _from_scratch(known: Pool, rng: np.random.Generator, trials: int) -> tuple[Order, Cooling]:
    order = known.pool[int(rng.integers(len(known.pool)))]
    if rng.random() < 0.5:
        order = tuple(range(len(known.problem.graph.ops)))
    if len(known.problem.graph.ops) >= MANY and rng.random() < 0.7:
        # Where costs and excess weigh about the same: on graphs of many ops few other
        # settings find a good arrangement before they freeze.
        hot = 10 ** rng.uniform(-2.5, -1.5)
        return order, _cooling(rng, trials, hot, 1e-5, hot * 10 ** rng.uniform(0.7, 1.3))
    hot = 10 ** rng.uniform(-3, -1)
    cold = min(10 ** rng.uniform(-5, -3), hot / 10)
    return order, _cooling(rng, trials, hot, cold, 10 ** rng.uniform(-1.5, 1))


def _from_best(
    best: Order, known: Pool, rng: np.random.Generator, trials: int
) -> tuple[Order, Cooling]:
    hot = 10 ** rng.uniform(-1.5, 0.7) / len(known.problem.graph.ops)
    cold = hot * 10 ** rng.uniform(-2.5, -1)
    return best, _cooling(rng, trials, hot, cold, 10 ** rng.uniform(-2, 1))


def _cooling(
    rng: np.random.Generator, trials: int, hot: float, cold: float, penalty: float
) -> Cooling:
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
