"""What a family answers follows from the referee alone: no model is traced here."""

from __future__ import annotations

import pytest

import pebble
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan.families.family import Family
from pebble.plan.families.polynomials import Shape
from tests.plan.families.growing import SMALL_BUDGET, Tiny, small_family, tokens

FAMILY = small_family()


def test_peaks_and_largest_batches_agree() -> None:
    for length in (8, 9, 39, 40):
        most = FAMILY.max_batch(length)
        assert FAMILY.peak_bytes(batch=most, length=length) <= SMALL_BUDGET
        assert FAMILY.peak_bytes(batch=most + 1, length=length) > SMALL_BUDGET
        shape = FAMILY.step.footprint(Shape(most, length))
        assert shape.peak(FAMILY.schedules[0]) == FAMILY.peak_bytes(batch=most, length=length)


def test_it_survives_plain_data() -> None:
    again = Family.from_json(FAMILY.to_json())
    assert again.table() == FAMILY.table()
    assert again.max_batch(23) == FAMILY.max_batch(23)


def test_what_it_does_not_hold_is_said() -> None:
    most = FAMILY.max_batch(20)
    with pytest.raises(InfeasibleBudget, match="2 of that length need"):
        FAMILY.overhead(batch=most + 1, length=20)
    with pytest.raises(InvalidArgument, match="lengths 8 to 40"):
        FAMILY.max_batch(41)
    with pytest.raises(InvalidArgument, match="batches of 2 to"):
        FAMILY.peak_bytes(batch=1, length=8)


def test_inputs_that_do_not_change_with_what_is_asked_are_refused() -> None:
    module = pebble.budgeted(Tiny(), budget_gb=1, display=False)
    with pytest.raises(InvalidArgument, match="make them of the length that is asked for"):
        pebble.family(module, lambda batch, _: tokens(batch, 9), lengths=(8, 40))
    with pytest.raises(InvalidArgument, match="make them of the batch that is asked for"):
        pebble.family(module, lambda _, length: tokens(3, length), lengths=(8, 40))
