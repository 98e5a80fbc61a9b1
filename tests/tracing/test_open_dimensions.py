"""What varies from call to call is left open; what always has one size is one symbol."""

from __future__ import annotations

import torch

from pebble.tracing.inputs import Inputs
from pebble.tracing.open_dimensions import OpenSizes, SizeHistory


def pair(rows: int, source: int, target: int) -> Inputs:
    labels = torch.zeros(rows, target, dtype=torch.long)
    return Inputs((torch.ones(rows, source),), {"labels": labels, "again": labels})


def open_after(*calls: Inputs) -> OpenSizes | None:
    history = SizeHistory()
    for call in calls[:-1]:
        history.note(call)
    return history.varying(calls[-1])


SOURCE = frozenset({("args[0]", 1)})
TARGET = frozenset({("kwargs['labels']", 1), ("kwargs['again']", 1)})
ROWS = frozenset({("args[0]", 0), ("kwargs['labels']", 0), ("kwargs['again']", 0)})


def groups(found: OpenSizes | None) -> set[frozenset[tuple[str, int]]]:
    return set() if found is None else {frozenset(group) for group in found.groups}


def test_one_call_or_calls_of_one_shape_leave_nothing_open() -> None:
    assert open_after(pair(4, 9, 5)) is None
    assert open_after(pair(4, 9, 5), pair(4, 9, 5)) is None


def test_two_lengths_are_two_symbols_and_rows_a_third() -> None:
    assert groups(open_after(pair(4, 9, 5), pair(4, 12, 7))) == {ROWS, SOURCE, TARGET}
    assert groups(open_after(pair(4, 9, 5), pair(4, 12, 5))) == {ROWS, SOURCE}
    assert groups(open_after(pair(4, 9, 9), pair(4, 12, 12))) == {ROWS, SOURCE | TARGET}


def test_lengths_that_are_equal_by_chance_are_told_apart_at_other_sizes() -> None:
    found = open_after(pair(4, 9, 5), pair(4, 12, 12))
    assert groups(found) == {ROWS, SOURCE, TARGET}
    assert found is not None and found.example["args[0]", 1] == 9, "those of the first call"
    made_up = open_after(pair(9, 9, 5), pair(12, 12, 12))
    assert made_up is not None and len(set(made_up.example.values())) == 3
    assert groups(made_up) == {ROWS, SOURCE, TARGET}


def test_stand_ins_have_those_sizes_and_one_tensor_stays_one() -> None:
    call = pair(4, 12, 12)
    found = open_after(pair(4, 9, 5), call)
    assert found is not None
    stand_in = found.stand_in(call)
    assert stand_in.args[0].shape == (4, 9)
    assert stand_in.kwargs["labels"].shape == (4, 5)
    assert stand_in.kwargs["labels"] is stand_in.kwargs["again"]
    assert stand_in.kwargs["labels"].dtype is torch.long
    same = open_after(pair(4, 9, 5), pair(4, 12, 7))
    last = pair(4, 12, 7)
    assert same is not None and same.stand_in(last).args[0] is last.args[0]


def test_one_sample_is_no_symbol() -> None:
    assert groups(open_after(pair(1, 9, 5), pair(1, 12, 5))) == {SOURCE}
    assert groups(open_after(pair(4, 9, 5), pair(1, 12, 5))) == {SOURCE}
    assert open_after(pair(4, 9, 5), pair(1, 9, 5)) is None


def test_edges_by_column_and_by_row_are_one_symbol() -> None:
    def graph(nodes: int, edges: int) -> Inputs:
        return Inputs((torch.ones(nodes, 3), torch.ones(2, edges), torch.ones(edges, 6)))

    edges = frozenset({("args[1]", 1), ("args[2]", 0)})
    found = groups(open_after(graph(5, 9), graph(7, 12)))
    assert found == {frozenset({("args[0]", 0)}), edges}
