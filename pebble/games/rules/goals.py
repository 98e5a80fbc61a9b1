"""What may be missing for the goal of several games."""

from __future__ import annotations

from pebble.games.position import BLACK, EMPTY, FREE, GHOST, WHITE, Position


def unseen(position: Position) -> str | None:
    """A target that was never pebbled, in words; None if there is none."""
    for t in position.board.targets:
        if not position.seen[t] and position.on[t] != FREE:
            return f"target {position.name(t)} was never pebbled"
    return None


def not_exactly_targets(position: Position) -> str | None:
    """A target without its pebble, or a pebble elsewhere, in words; None if there is neither."""
    targets = set(position.board.targets)
    for v, what in enumerate(position.on):
        if v in targets and what not in (BLACK, FREE):
            return f"target {position.name(v)} has no pebble at the end"
        if v not in targets and what not in (EMPTY, FREE):
            thing = {BLACK: "a pebble", WHITE: "a white pebble", GHOST: "a ghost"}[what]
            return f"{thing} is left on {position.name(v)}, which is no target"
    return None
