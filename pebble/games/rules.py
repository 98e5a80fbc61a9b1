"""The games: one small rule object each. It says what a move may do to a position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.position import (
    BLACK,
    EMPTY,
    FREE,
    GHOST,
    WHITE,
    Broken,
    Game,
    Position,
    SequentialGame,
)


def _unseen(position: Position) -> str | None:
    for t in position.board.targets:
        if not position.seen[t] and position.on[t] != FREE:
            return f"target {position.name(t)} was never pebbled"
    return None


def _not_exactly_targets(position: Position) -> str | None:
    targets = set(position.board.targets)
    for v, what in enumerate(position.on):
        if v in targets and what not in (BLACK, FREE):
            return f"target {position.name(v)} has no pebble at the end"
        if v not in targets and what not in (EMPTY, FREE):
            thing = {BLACK: "a pebble", WHITE: "a white pebble", GHOST: "a ghost"}[what]
            return f"{thing} is left on {position.name(v)}, which is no target"
    return None


@dataclass(frozen=True, kw_only=True)
class _WithInputs(SequentialGame):
    """Games whose sources may be free: always there, and no pebbles.

    Parameters
    ----------
    free_inputs : bool
        Whether sources are always there and need no pebble.
    """

    free_inputs: bool = False

    def start(self, board: Board) -> Position:
        """The empty board; free inputs are marked."""
        position = Position(board, self)
        for v in board.sources if self.free_inputs else ():
            position.on[v] = FREE
        return position


@dataclass(frozen=True, kw_only=True)
class Black(_WithInputs):
    """The black pebble game: place when the predecessors are pebbled, remove any time.

    Parameters
    ----------
    slide : bool
        Whether a pebble may slide from a predecessor onto the node.
    recompute : bool
        Whether a node may be placed more than once (False: register allocation).
    hold : bool
        Whether all targets must be pebbled together at the end; else each at some time.
    free_inputs : bool
        Whether sources are always there and need no pebble.

    Notes
    -----
    Paterson and Hewitt (1970), Sethi (1975). Time is the number of placements.
    """

    slide: bool = False
    recompute: bool = True
    hold: bool = False
    title: ClassVar[str] = "black"
    cost_name: ClassVar[str] = "placements"

    def __str__(self) -> str:
        if self.weighted and not (self.slide or self.hold):
            return f"black-weighted/{'recompute' if self.recompute else 'oneshot'}"
        return "/".join([
            super().__str__(),
            "slide" if self.slide else "noslide",
            "recompute" if self.recompute else "oneshot",
            "final" if self.hold else "visit",
        ])  # fmt: skip

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place, remove, and slide where it is allowed."""
        on, preds, spaces = position.on, position.preds, position.workspaces

        def compute(v: int) -> None:
            position.require_empty(v)
            position.require_preds(v, "placing")
            if not self.recompute:
                position.require_new(v, "placed")
            position.compute(v)

        def place(move: Move) -> None:
            v = move[1]
            compute(v)
            position.put(v, BLACK)
            if spaces is not None:
                position.extra = spaces[v]

        def remove(move: Move) -> None:
            position.take(move[1], BLACK)

        def slide(move: Move) -> None:
            _, v, u = move
            if not self.slide:
                raise Broken("sliding is not allowed in this game")
            if u not in preds[v]:
                raise Broken("a pebble slides only from a predecessor")
            if on[u] == BLACK:
                compute(v)
            position.take(u, BLACK)
            position.put(v, BLACK)

        return {Act.PLACE: place, Act.REMOVE: remove, Act.SLIDE: slide}

    def unmet(self, position: Position) -> str | None:
        """A target never pebbled, or not held at the end."""
        if not self.hold:
            return _unseen(position)
        for t in position.board.targets:
            if position.on[t] == EMPTY:
                return f"target {position.name(t)} has no pebble at the end"
        return None


@dataclass(frozen=True, kw_only=True)
class BlackWhite(SequentialGame):
    """The black-white game: white pebbles are guesses that must be proved before they go.

    Parameters
    ----------
    hold : bool
        Whether the board ends with black pebbles on exactly the targets; else every target is
        pebbled at some time and the board ends empty.

    Notes
    -----
    Cook and Sethi (1976). Every placement and every removal is a move.
    """

    hold: bool = False
    title: ClassVar[str] = "black-white"

    def __str__(self) -> str:
        return f"{super().__str__()}/{'persistent' if self.hold else 'visit'}"

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove, black and white."""

        def put(kind: int) -> Callable[[Move], None]:
            def act(move: Move) -> None:
                v = move[1]
                position.require_empty(v)
                if kind == BLACK:
                    position.require_preds(v, "placing")
                    position.placements += 1
                position.seen[v] = 1
                position.put(v, kind)
                position.cost += position.costs[v]

            return act

        def take(kind: int) -> Callable[[Move], None]:
            def act(move: Move) -> None:
                v = move[1]
                position.take(v, kind)
                if kind == WHITE:
                    position.require_preds(v, "removing a white pebble")
                position.cost += position.costs[v]

            return act

        return {
            Act.PLACE: put(BLACK), Act.REMOVE: take(BLACK),
            Act.WHITE: put(WHITE), Act.LIFT: take(WHITE),
        }  # fmt: skip

    def unmet(self, position: Position) -> str | None:
        """A target never pebbled, or a pebble where none may be at the end."""
        if self.hold:
            return _not_exactly_targets(position)
        missing = _unseen(position)
        if missing is None and any(position.on):
            v = next(v for v, what in enumerate(position.on) if what)
            return f"a pebble is left on {position.name(v)}; the board must end empty"
        return missing


@dataclass(frozen=True, kw_only=True)
class Reversible(_WithInputs):
    """The reversible game: a removal is a computation run backwards.

    Parameters
    ----------
    hold : bool
        Whether the board ends with pebbles on exactly the targets; else every target is pebbled
        at some time.
    free_inputs : bool
        Whether sources are always there and need no pebble.

    Notes
    -----
    Bennett (1989). Every placement and every removal is a move.
    """

    hold: bool = True
    title: ClassVar[str] = "reversible"

    def __str__(self) -> str:
        return f"{super().__str__()}/{'persistent' if self.hold else 'visit'}"

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove, both with every predecessor pebbled."""

        def place(move: Move) -> None:
            v = move[1]
            position.require_empty(v)
            position.require_preds(v, "placing")
            position.put(v, BLACK)
            position.compute(v)

        def remove(move: Move) -> None:
            v = move[1]
            position.take(v, BLACK)
            position.require_preds(v, "removing")
            position.cost += position.costs[v]

        return {Act.PLACE: place, Act.REMOVE: remove}

    def unmet(self, position: Position) -> str | None:
        """A target without its pebble, or a pebble elsewhere."""
        return _not_exactly_targets(position) if self.hold else _unseen(position)


@dataclass(frozen=True, kw_only=True)
class Spooky(Reversible):
    """The spooky game: reversible, and a pebble may be measured away into a ghost.

    Parameters
    ----------
    ghosts : int, optional
        Most ghosts at a time; None: any number.

    Notes
    -----
    Gidney (2019), "Spooky pebble games and irreversible uncomputation".
    """

    ghosts: int | None = None
    title: ClassVar[str] = "spooky"

    def __post_init__(self) -> None:
        if not self.hold or self.free_inputs:
            raise InvalidArgument("The spooky game ends with pebbles on exactly the targets.")
        if self.ghosts is not None and self.ghosts < 0:
            raise InvalidArgument(f"The number of ghosts is {self.ghosts}; it must be 0 or more.")

    def __str__(self) -> str:
        return Game.__str__(self) + ("" if self.ghosts is None else f"/{self.ghosts}")

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Those of the reversible game, ghost and restore."""
        on, limit = position.on, self.ghosts

        def ghost(move: Move) -> None:
            v = move[1]
            position.take(v, BLACK)
            if limit is not None and position.ghosts >= limit:
                raise Broken(f"at most {limit} ghosts may exist at a time")
            on[v] = GHOST
            position.ghosts += 1
            position.ghost_peak = max(position.ghost_peak, position.ghosts)
            position.cost += position.costs[v]

        def restore(move: Move) -> None:
            v = move[1]
            if on[v] != GHOST:
                raise Broken(f"{position.name(v)} carries no ghost")
            position.require_preds(v, "restoring a ghost")
            position.ghosts -= 1
            position.put(v, BLACK)
            position.compute(v)

        return {**super().moves(position), Act.GHOST: ghost, Act.RESTORE: restore}


@dataclass(frozen=True, kw_only=True)
class RedBlue(SequentialGame):
    """The red-blue game: a small fast memory (red), a large slow one (blue), and their traffic.

    Parameters
    ----------
    recompute : bool
        Whether a node may be computed more than once.
    blue_inputs : bool
        Whether sources lie in slow memory at the start and must be loaded; else they are
        computed like any node.
    compute : int
        Cost of a computation (times the op's cost if weighted) beside the traffic.
    load, store : int
        Cost of a transfer (times the value's size if weighted).

    Notes
    -----
    Hong and Kung (1981). Blue pebbles are never in the way, so there is no move to remove one.
    """

    recompute: bool = True
    blue_inputs: bool = True
    compute: int = 0
    load: int = 1
    store: int = 1
    title: ClassVar[str] = "red-blue"
    cost_name: ClassVar[str] = "transfers"

    def __post_init__(self) -> None:
        for name in ("compute", "load", "store"):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"The cost {name!r} is negative.")

    def __str__(self) -> str:
        return f"{super().__str__()}/{'recompute' if self.recompute else 'oneshot'}"

    def start(self, board: Board) -> Position:
        """Sources in slow memory."""
        position = Position(board, self)
        if self.blue_inputs:
            for v in board.sources:
                position.blue[v] = 1
        return position

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Compute and forget in fast memory; load and store between the two."""
        on, blue, sizes = position.on, position.blue, position.sizes

        def enter(v: int) -> None:
            if on[v]:
                raise Broken("the node already carries a red pebble")
            position.put(v, BLACK)

        def place(move: Move) -> None:
            v = move[1]
            if not position.preds[v] and self.blue_inputs:
                raise Broken("an input is loaded, not computed")
            position.require_preds(v, "computing")
            if not self.recompute:
                position.require_new(v, "computed")
            enter(v)
            position.seen[v] = 1
            position.placements += 1
            position.cost += self.compute * position.costs[v]

        def remove(move: Move) -> None:
            position.take(move[1], BLACK)

        def transfer(v: int, price: int) -> None:
            position.io += 1
            position.cost += price * sizes[v]

        def load(move: Move) -> None:
            v = move[1]
            if not blue[v]:
                raise Broken(f"{position.name(v)} is not in slow memory")
            enter(v)
            transfer(v, self.load)

        def store(move: Move) -> None:
            v = move[1]
            if not on[v]:
                raise Broken(f"{position.name(v)} is not in fast memory")
            blue[v] = 1
            transfer(v, self.store)

        return {Act.PLACE: place, Act.REMOVE: remove, Act.LOAD: load, Act.STORE: store}

    def unmet(self, position: Position) -> str | None:
        """A target that is not in slow memory."""
        for t in position.board.targets:
            if not position.blue[t]:
                return f"target {position.name(t)} is not in slow memory at the end"
        return None


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
        return _unseen(position)


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
        return _not_exactly_targets(position)
