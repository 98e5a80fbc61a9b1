"""The parallel games: many moves in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pebble.games.moves import Step
from pebble.games.position import BLACK, EMPTY, Broken, Game, Position
from pebble.games.rules.goals import not_exactly_targets, unseen


@dataclass(frozen=True, kw_only=True)
class ParallelBlack(Game):
    """The parallel black game: many placements in one step; the cost is the sum of the sizes.

    Notes
    -----
    A step from P to Q needs the predecessors of what is new inside P. The cumulative cost is
    the total weight of all positions (Alwen and Serbinenko 2015).
    """

    title: ClassVar[str] = "parallel-black"
    cost_name: ClassVar[str] = "cumulative cost"
    parallel = True

    def unmet(self, position: Position) -> str | None:
        """A target that was never pebbled."""
        return unseen(position)


@dataclass(frozen=True, kw_only=True)
class ParallelReversible(Game):
    """The parallel reversible game: a set of nodes toggles in one step.

    Notes
    -----
    The predecessors of every toggled node are pebbled before and after the step, and the
    board ends with pebbles on exactly the targets. Time is the number of steps.
    """

    title: ClassVar[str] = "reversible-parallel"
    cost_name: ClassVar[str] = "steps"
    parallel = True

    def __str__(self) -> str:
        return f"{super().__str__()}/persistent"

    def unmet(self, position: Position) -> str | None:
        """A target without its pebble, or a pebble elsewhere."""
        return not_exactly_targets(position)


def take_step(game: Game, position: Position, step: Any) -> None:
    """Change a position by one step of a parallel game; raises `Broken` if a rule forbids it."""
    if not isinstance(step, Step):
        raise Broken(f"the game {str(game)!r} is played in steps that place and remove sets")
    on, n = position.on, len(position.board)
    changed = (*step.place, *step.remove)
    for v in changed:
        if not 0 <= v < n:
            raise Broken(f"there is no node {v}; the board has {n}")
    if len(set(changed)) != len(changed):
        raise Broken("a node occurs twice in one step")
    for v in step.place:
        if on[v] != EMPTY:
            raise Broken(f"{position.name(v)} already carries a pebble")
        position.require_preds(v, "placing")
    for v in step.remove:
        if on[v] != BLACK:
            raise Broken(f"{position.name(v)} carries no such pebble")
        if isinstance(game, ParallelReversible):
            position.require_preds(v, "removing")
    for v in step.place:
        on[v], position.seen[v] = BLACK, 1
    for v in step.remove:
        on[v] = EMPTY
    if isinstance(game, ParallelReversible):
        for v in changed:
            position.require_preds(v, "toggling (its predecessors must still be there after it)")
    position.used += sum(position.sizes[v] for v in step.place)
    position.used -= sum(position.sizes[v] for v in step.remove)
    position.placements += len(step.place)
    position.cost += position.used if isinstance(game, ParallelBlack) else 1
