"""A directory of plans: one file for each graph and budget, an ordinary plan file."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path

from pebble.errors import InvalidArgument, PlanFormatError
from pebble.measure.step import Step
from pebble.plan.optimization import plan_of
from pebble.plan.plan import Plan
from pebble.plan.plan_file import build_from_file
from pebble.plan.search import PlanSearch, given_schedule
from pebble.plan.step_search import Found
from pebble.solver import solve
from pebble.textfile import shown

logger = logging.getLogger("pebble")


class PlanDirectory:
    """Plans by the fingerprint of their graph, written whole or not at all.

    Processes may share it. A file that is damaged, or whose plan no longer fits with the
    temporaries of this machine, is replaced.

    Parameters
    ----------
    folder : str or path-like
        Made if it is missing.

    Raises
    ------
    InvalidArgument
        If there can be no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            self.folder = Path(folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, TypeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidArgument(
                f"The cache {shown(folder)} is no folder for plans: {reason}; pass a directory."
            ) from None

    def find(self, step: Step, search: PlanSearch) -> Found | None:
        """The plan for the very graph of a step, if there is one that fits."""
        path = self._path(step, search)
        if not path.exists():
            return None
        try:
            plan = build_from_file(path, lambda _: Plan.from_json)
            return _on(step, plan, search)
        except (PlanFormatError, InvalidArgument) as error:
            logger.warning("%s It is made again.", error)
            return None

    def keep(self, found: Found, search: PlanSearch) -> None:
        """Write what was found; training goes on where that cannot be done."""
        try:
            plan_of(found, search).save(self._path(found.step, search))
        except InvalidArgument as error:
            logger.warning("%s", error)

    def _path(self, step: Step, search: PlanSearch) -> Path:
        whole = step.one_piece
        record = whole.record
        asked = (
            search.budget_bytes,
            record.optimizer,
            record.costs,
            record.threads,
            record.accumulation_steps,
            record.calls_in_flight,
            record.outputs,
            record.device,
            search.options.chunked_loss,
            search.options.budget_kind,
        )
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
        return self.folder / f"{whole.graph.fingerprint}-{digest}.json"


def _on(step: Step, plan: Plan, search: PlanSearch) -> Found | None:
    if plan.chunks != step.options.chunks:
        step = step.chunked(plan.chunks)
    if plan.problem.graph.fingerprint != step.graph.fingerprint:
        return None
    step = step.with_waiting(step.waiting_bytes(plan.schedule))
    if not step.resident.admits(search.budget_bytes):
        return None
    problem = step.footprint.problem(search.budget_bytes)
    result = solve(problem, given_schedule(plan.schedule))
    if result.schedule is None:
        return None
    return Found(step, replace(result, solver=plan.solver, seed=plan.seed))
