"""Executions as intervals of CP-SAT: when each copy of a value is in memory (MOCCASIN)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pebble.problem import Objective, Problem
from pebble.schedule import Schedule
from pebble.solvers.edits.incumbent import Incumbent


class IntervalModel:
    """Variables of executions and copies."""

    def __init__(self, problem: Problem, *, fixed: bool, copies: int) -> None:
        self.problem, self.graph, self.fixed = problem, problem.graph, fixed
        a, n = problem.graph.arrays, len(problem.graph.ops)
        may = problem.may_repeat.tolist()
        self.times = [copies if may[i] else 1 for i in range(n)]
        self.inputs = [a.in_val[x:y].tolist() for x, y in pairwise(a.in_ptr.tolist())]
        self.producer, self.pinned = a.producer.tolist(), a.pinned.tolist()
        self.size, self.workspace = a.size.tolist(), a.workspace.tolist()
        self.cost = a.cost.tolist()
        self.horizon = n * (n + 1) // 2 if fixed else sum(self.times)
        self.pairs = sum(
            self.times[i] * self.times[self.producer[v]] for i in range(n) for v in self.inputs[i]
        )

    def build(self, most_cost: int | None, most_peak: int | None) -> None:
        """Write the model; limits on cost or peak ask for better than the incumbent."""
        from ortools.sat.python import cp_model

        self.cp: Any = cp_model.CpModel()
        self.begin: dict[tuple[int, int], Any] = {}
        self.present: dict[tuple[int, int], Any] = {}
        self.until: dict[tuple[int, int], Any] = {}
        self.intervals: list[Any] = []
        self.alone: list[Any] = []
        self.demands: list[int] = []
        for i, times in enumerate(self.times):
            for c in range(times):
                self._execution(i, c)
        for i, times in enumerate(self.times):
            for c in range(times):
                self._reads(i, c)
        # [Constraint] One execution a step; in fixed order steps are apart by themselves.
        self.cp.add_no_overlap(self.alone)
        # [Constraint] What is in memory at each step fits.
        limit: Any = self.problem.budget
        peak = self.problem.objective is Objective.PEAK
        if peak:
            most = self.problem.budget if most_peak is None else most_peak
            low = self.problem.working_set_bound
            limit = self.cp.new_int_var(min(low, most), most, "")
        self.cp.add_cumulative(self.intervals, self.demands, limit)
        again = [(self.cost[i], x) for (i, c), x in self.present.items() if c]
        spent = sum(cost * x for cost, x in again)
        if peak:
            self.cp.minimize(limit)
        else:
            base = self.graph.total_cost
            if most_cost is not None:
                self.cp.add(spent <= most_cost - base)
            self.cp.minimize(spent + base)

    def _execution(self, i: int, c: int) -> None:
        from ortools.sat.python import cp_model

        cp, n = self.cp, len(self.times)
        present = cp.new_bool_var("") if c else cp.new_constant(1)
        if self.fixed:
            stages = range(i + c, n) if c else range(i, i + 1)
            steps = [t * (t + 1) // 2 + i for t in stages] or [0]
            begin = cp.new_int_var_from_domain(cp_model.Domain.from_values(steps), "")
            if c and not len(stages):
                cp.add(present == 0)
        else:
            begin = cp.new_int_var(0, self.horizon - 1, "")
        self.begin[i, c], self.present[i, c] = begin, present
        if c:
            # [Constraint] Executions of an op are numbered in order.
            cp.add_implication(present, self.present[i, c - 1])
            cp.add(begin > self.begin[i, c - 1]).only_enforce_if(present)
        self._occupy(begin, begin + 1, 1, present, self.workspace[i])
        for v in self.graph.ops[i].outputs:
            if self.pinned[v]:
                end = begin + 1 if c else self.horizon
                length = 1 if c else self.horizon - begin
                self._occupy(begin, end, length, present, self.size[v])
            else:
                until = cp.new_int_var(0, self.horizon - 1, "")
                self.until[v, c] = until
                length = cp.new_int_var(1, self.horizon, "")
                self._occupy(begin, until + 1, length, present, self.size[v])
        if not self.fixed:
            self.alone.append(cp.new_optional_fixed_size_interval_var(begin, 1, present, ""))

    def _occupy(self, begin: Any, end: Any, length: Any, present: Any, size: int) -> None:
        if size:
            self.intervals.append(
                self.cp.new_optional_interval_var(begin, length, end, present, "")
            )
            self.demands.append(size)

    def _reads(self, i: int, c: int) -> None:
        """[Constraint] One copy of each input serves an execution: made before, kept until then."""
        cp, now, present = self.cp, self.begin[i, c], self.present[i, c]
        for v in self.inputs[i]:
            p = self.producer[v]
            if self.pinned[v]:
                cp.add(self.begin[p, 0] < now).only_enforce_if(present)
                continue
            serves = []
            for k in range(self.times[p]):
                by = cp.new_bool_var("")
                serves.append(by)
                cp.add_implication(by, self.present[p, k])
                cp.add(self.begin[p, k] < now).only_enforce_if(by)
                cp.add(self.until[v, k] >= now).only_enforce_if(by)
            cp.add_bool_or([*serves, present.negated()] if c else serves)

    def hint(self, schedule: Schedule) -> None:
        """Begin from a schedule of the class."""
        seen = [0] * len(self.times)
        for step, (op, stage) in enumerate(zip(schedule.order, schedule.stages().tolist())):
            c, seen[op] = seen[op], seen[op] + 1
            at = stage * (stage + 1) // 2 + op if self.fixed else step
            self.cp.add_hint(self.begin[op, c], at)
        for (i, c), present in self.present.items():
            if c:
                self.cp.add_hint(present, c < seen[i])

    def solve(
        self, seconds: float, seed: int, threads: int, best: Incumbent
    ) -> tuple[Schedule | None, int, bool]:
        """(best schedule found, bound on the objective, proved that there is none)."""
        from ortools.sat.python import cp_model

        model = self

        class Listener(cp_model.CpSolverSolutionCallback):
            def on_solution_callback(self) -> None:
                best.offer(model._schedule(self))

        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.random_seed = seed
        solver.parameters.num_workers = threads
        status = solver.solve(self.cp, Listener())
        if status == cp_model.INFEASIBLE:
            return None, 0, True
        bound = max(int(-(-(solver.best_objective_bound - 1e-6) // 1)), 0)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return self._schedule(solver), bound, False
        return None, bound, False

    def _schedule(self, values: Any) -> Schedule:
        runs = [
            (values.value(self.begin[key]), key[0])
            for key, present in self.present.items()
            if values.value(present)
        ]
        return Schedule(tuple(op for _, op in sorted(runs)))
