"""Sizes that vary, in torch.export's notation: read, refused, and found at calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from pebble.errors import InvalidArgument
from pebble.tracing.dynamic_shapes import DynamicShapes
from pebble.tracing.inputs import Inputs


class Two(nn.Module):
    def forward(self, x: torch.Tensor, more: Any = None) -> torch.Tensor:
        return x if more is None else x.sum() + more["y"].sum()


def places(given: Any, *args: torch.Tensor, **kwargs: Any) -> set[frozenset[tuple[str, int]]]:
    shapes = DynamicShapes.of(Two(), given)
    assert shapes is not None
    found = shapes.open(Two(), Inputs(args, kwargs))
    return set() if found is None else {frozenset(group) for group in found.groups}


def test_nothing_given_is_nothing() -> None:
    assert DynamicShapes.of(Two(), None) is None


def test_names_tie_dimensions_wherever_the_inputs_stand() -> None:
    batch, length = Dim("batch"), Dim("length", min=2, max=8)
    given = {"x": {0: batch, 1: length}, "more": {"y": (batch, None)}}
    both = frozenset({("args[0]", 0), ("kwargs['more']['y']", 0)})
    x, y = torch.ones(3, 4), torch.ones(3, 5)
    assert places(given, x, more={"y": y}) == {both, frozenset({("args[0]", 1)})}
    ordered = ({0: batch, 1: length}, {"y": {0: batch}})
    assert places(ordered, x, more={"y": y}) == places(given, x, more={"y": y})
    assert places(given, x) == {frozenset({("args[0]", 0)}), frozenset({("args[0]", 1)})}


def test_sizes_outside_of_the_bounds_leave_nothing_open() -> None:
    given = {"x": {1: Dim("length", min=2, max=8)}}
    assert places(given, torch.ones(3, 8)) and not places(given, torch.ones(3, 9))


def test_one_sample_is_no_symbol() -> None:
    given = {"x": {0: Dim.AUTO, 1: Dim.DYNAMIC}}
    assert places(given, torch.ones(1, 8)) == {frozenset({("args[0]", 1)})}
    assert places(given, torch.ones(8, 8)) == {frozenset({("args[0]", 0), ("args[0]", 1)})}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (7, "is a int"),
        ({"z": {0: Dim.AUTO}}, "names 'z', which Two.forward does not take; it takes x, more"),
        (({0: Dim.AUTO}, None, None), "has 3 entries; Two.forward takes 2"),
        ({"x": {0: "batch"}}, "has 'batch' for dimension 0 of x"),
        ({"x": 3}, "has 3 for x"),
        ({"x": {-1: Dim.AUTO}}, "dimension -1 of x; count from 0"),
        ({"x": {0: 2 * Dim("half")}}, "is computed from another Dim"),
        ({"x": {0: Dim.STATIC}}, "leaves no size open"),
        ({"x": (Dim("n", max=5), Dim("n", max=6))}, "two Dim named 'n'"),
    ],
)
def test_what_is_no_such_notation_is_refused(given: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match="dynamic_shapes") as error:
        DynamicShapes.of(Two(), given)
    assert told in str(error.value)


def test_calls_that_do_not_fit_what_was_told_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"dimension 2 of x.*shape is \[3, 4\]"):
        places({"x": {2: Dim.AUTO}}, torch.ones(3, 4))
    with pytest.raises(InvalidArgument, match="'n' is one size, but args.0. has 3 .* 4 in"):
        places({"x": (Dim("n"), Dim("n"))}, torch.ones(3, 4))
