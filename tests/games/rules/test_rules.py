"""The rules: each kind of illegal move is rejected with step, move and a sentence of its own."""

from __future__ import annotations

import pytest

from pebble.errors import IllegalMove
from pebble.games import (
    Act,
    Black,
    BlackWhite,
    Board,
    InPlace,
    Move,
    ParallelBlack,
    ParallelReversible,
    RedBlue,
    Reversible,
    Spooky,
    Step,
    make_graph,
    place,
    play,
    remove,
)

LINE = Board.of(make_graph("path:3"))


FORK = Board.of(make_graph("tree:2x1"))  # 0 and 1 are read by 2


CROSS = Board(  # 2 and 3 both read 0 and 1; 5 reads 1 and 4, which reads 1
    names=tuple("012345"),
    preds=((), (), (0, 1), (0, 1), (1,), (1, 4)),
    targets=(2, 3, 5),
)


def move(act: str, node: int, source: int = -1) -> Move:
    return Move(Act(act), node, source)


ILLEGAL = {
    "place without a predecessor": (
        Black(), FORK, [place(0), place(2)], 1, "needs a pebble on every predecessor, and '1'",
    ),
    "place twice": (Black(), LINE, [place(0), place(0)], 1, "already carries a pebble"),
    "remove nothing": (Black(), LINE, [remove(1)], 0, "'1' carries no such pebble"),
    "slide in a game without": (
        Black(), LINE, [place(0), move("slide", 1, 0)], 1, "sliding is not allowed",
    ),
    "slide from elsewhere": (
        Black(slide=True), LINE, [place(0), move("slide", 2, 0)], 1, "only from a predecessor",
    ),
    "slide from nothing": (
        Black(slide=True), LINE, [move("slide", 1, 0)], 0, "'0' carries no such pebble",
    ),
    "slide with a predecessor missing": (
        Black(slide=True), FORK, [place(0), move("slide", 2, 0)], 1, "and '1' has none",
    ),
    "recompute in one-shot": (
        Black(recompute=False), LINE, [place(0), remove(0), place(0)], 2, "placed only once",
    ),
    "place a free input": (Black(free_inputs=True), LINE, [place(0)], 0, "needs no pebble"),
    "goal not visited": (Black(), LINE, [place(0)], None, "target '2' was never pebbled"),
    "goal not held": (
        Black(hold=True), LINE, [place(0), place(1), place(2), remove(2)], None,
        "target '2' has no pebble at the end",
    ),
    "white removed unproved": (
        BlackWhite(), LINE, [move("white", 1), move("lift", 1)], 1,
        "removing a white pebble needs a pebble on every predecessor",
    ),
    "white left over": (
        BlackWhite(hold=True), LINE, [move("white", 2)], None, "target '2' has no pebble",
    ),
    "board not empty": (
        BlackWhite(), LINE, [place(0), place(1), place(2)], None, "must end empty",
    ),
    "remove irreversibly": (
        Reversible(), LINE, [place(0), place(1), remove(0), remove(1)], 3,
        "removing needs a pebble on every predecessor, and '0' has none",
    ),
    "garbage left": (
        Reversible(), LINE, [place(0), place(1), place(2)], None, "is left on '0'",
    ),
    "in place: compute an input": (
        InPlace(), LINE, [place(0)], 0, "an input is neither computed nor uncomputed",
    ),
    "in place: uncompute an input": (InPlace(), LINE, [remove(0)], 0, "an input is neither"),
    "in place: slide from elsewhere": (
        InPlace(), LINE, [place(1), move("slide", 2, 0)], 1, "from what it reads, or back",
    ),
    "in place: slide from no node": (InPlace(), LINE, [move("slide", 1, -1)], 0, "what it reads"),
    "in place: slide from far outside": (InPlace(), LINE, [move("slide", 1, 9)], 0, "or back"),
    "in place: slide onto a gate that cannot": (
        InPlace(nodes=(2,)), LINE, [move("slide", 1, 0)], 0, "'1' may not be computed in place",
    ),
    "in place: slide back from a gate that cannot": (
        InPlace(nodes=(2,)), LINE, [place(1), move("slide", 0, 1)], 1, "'1' may not be computed",
    ),
    "in place: slide onto what is there": (
        InPlace(), LINE, [place(1), move("slide", 1, 0)], 1, "'1' is there already",
    ),
    "in place: slide back onto what is there": (
        InPlace(), LINE, [place(1), move("slide", 0, 1)], 1, "'0' is there already",
    ),
    "in place: slide with another input gone": (
        InPlace(), CROSS, [move("slide", 2, 0), move("slide", 3, 1)], 1,
        "computing in place needs a pebble on every predecessor, and '0' has none",
    ),
    "in place: slide back from nothing": (
        InPlace(), LINE, [move("slide", 1, 0), move("slide", 2, 1), move("slide", 0, 1)], 2,
        "'1' carries no such pebble",
    ),
    "in place: slide back with two things missing": (
        InPlace(), CROSS, [place(2), place(4), move("slide", 3, 0), move("slide", 5, 1),
        move("slide", 0, 2)], 4,
        "uncomputing in place needs a pebble on every predecessor, and '1' has none",
    ),
    "in place: place with an input overwritten": (
        InPlace(), CROSS, [move("slide", 2, 0), place(3)], 1, "placing needs a pebble on every",
    ),
    "in place: remove with an input overwritten": (
        InPlace(), CROSS, [place(2), move("slide", 3, 0), remove(2)], 2,
        "removing needs a pebble on every",
    ),
    "in place: input overwritten": (
        InPlace(), LINE, [move("slide", 1, 0), move("slide", 2, 1)], None,
        "input '0' is overwritten and not back",
    ),
    "in place: garbage left": (
        InPlace(), CROSS, [place(2), place(3), place(4), place(5)], None, "is left on '4', which",
    ),
    "in place: no target": (InPlace(), CROSS, [place(2)], None, "target '3' has no pebble"),
    "in place: other moves": (InPlace(), LINE, [move("ghost", 0)], 0, "place, remove, slide."),
    "too many ghosts": (
        Spooky(ghosts=0), LINE, [place(0), move("ghost", 0)], 1, "at most 0 ghosts",
    ),
    "ghost of nothing": (Spooky(), LINE, [move("ghost", 0)], 0, "no such pebble"),
    "restore no ghost": (Spooky(), LINE, [move("restore", 0)], 0, "'0' carries no ghost"),
    "restore without predecessors": (
        Spooky(), LINE, [place(0), place(1), move("ghost", 1), remove(0), move("restore", 1)], 4,
        "restoring a ghost needs a pebble on every predecessor",
    ),
    "place on a ghost": (
        Spooky(), LINE, [place(0), move("ghost", 0), place(0)], 2, "restore it instead",
    ),
    "ghost as a predecessor": (
        Spooky(), LINE, [place(0), move("ghost", 0), place(1)], 2, "and '0' has none",
    ),
    "ghost left": (
        Spooky(), Board.of(make_graph("path:2")), [place(0), place(1), move("ghost", 0)], None,
        "a ghost is left on '0'",
    ),
    "compute an input": (RedBlue(), LINE, [place(0)], 0, "an input is loaded, not computed"),
    "load what is not stored": (RedBlue(), LINE, [move("load", 1)], 0, "is not in slow memory"),
    "load twice": (
        RedBlue(), LINE, [move("load", 0), move("load", 0)], 1, "already carries a red pebble",
    ),
    "store what is not there": (RedBlue(), LINE, [move("store", 0)], 0, "is not in fast memory"),
    "compute with blue inputs": (
        RedBlue(), LINE, [place(1)], 0, "computing needs a pebble on every predecessor",
    ),
    "compute twice in one-shot": (
        RedBlue(recompute=False), LINE, [move("load", 0), place(1), remove(1), place(1)], 3,
        "computed only once",
    ),
    "output not stored": (
        RedBlue(), LINE, [move("load", 0), place(1), place(2)], None,
        "target '2' is not in slow memory",
    ),
    "unknown act": (Black(), LINE, [move("load", 0)], 0, "knows only the moves place, remove"),
    "unknown node": (Black(), LINE, [place(7)], 0, "there is no node 7"),
    "no move at all": (Black(), LINE, ["place"], 0, "knows only the moves"),
    "parallel: predecessor placed in the same step": (
        ParallelBlack(), LINE, [Step((0, 1))], 0, "and '0' has none",
    ),
    "parallel: placed twice": (
        ParallelBlack(), LINE, [Step((0,)), Step((0,))], 1, "already carries a pebble",
    ),
    "parallel: nothing to remove": (ParallelBlack(), LINE, [Step((), (0,))], 0, "no such pebble"),
    "parallel: a node twice": (ParallelBlack(), LINE, [Step((0, 0))], 0, "twice in one step"),
    "parallel: unknown node": (ParallelBlack(), LINE, [Step((9,))], 0, "there is no node 9"),
    "parallel: single move": (ParallelBlack(), LINE, [place(0)], 0, "played in steps"),
    "parallel reversible: predecessor leaves": (
        ParallelReversible(), LINE, [Step((0,)), Step((1,), (0,))], 1, "toggling",
    ),
    "parallel reversible: remove irreversibly": (
        ParallelReversible(), LINE, [Step((0,)), Step((1,)), Step((), (0,)), Step((), (1,))], 3,
        "removing needs a pebble on every predecessor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ILLEGAL)
def test_illegal_moves(case: str) -> None:
    game, board, moves, step, sentence = ILLEGAL[case]
    with pytest.raises(IllegalMove) as caught:
        play(game, board, moves)
    text = str(caught.value)
    assert sentence in text
    assert text.endswith(".")
    if step is None:
        assert f"ends after {len(moves)} moves" in text
    else:
        assert text.startswith(f"Step {step}, ")


def test_every_sentence_is_its_own() -> None:
    sentences = {case[4] for case in ILLEGAL.values()}
    assert len(sentences) >= 30
