"""Polynomials are exact; what is none is found out, or bounded."""

from __future__ import annotations

import pytest

from pebble.budget import Footprint, Resident
from pebble.errors import CaptureError, InvalidArgument
from pebble.graph import Graph, Op, Value
from pebble.plan.families.domains import Domain
from pebble.plan.families.polynomials import Basis, Polynomials, Shape, bound_through
from pebble.plan.families.sized_step import SizedStep
from pebble.schedule import Schedule

BOTH = Basis.of(batches=True, lengths=True)
SHAPES = [Shape(b, n) for n in (10, 33, 70) for b in (2, 8)]
HELD = Shape(5, 50)


def step(shape: Shape, *, workspace: int = 0, odd: int = 0) -> Footprint:
    b, n = shape
    graph = Graph(
        [Op("a", 7 * b * n, (), (0,), workspace=workspace), Op("b", b, (0,), (1,))],
        [Value("x", 4 * b * n * (n + 1) // 2 + odd), Value("y", 12)],
    )
    return Footprint(graph, Resident({"inputs": 8 * b * n}, 100))


def test_large_numbers_to_the_last_byte() -> None:
    def size(shape: Shape) -> int:
        return 3 * shape.batch * shape.length**2 + 10**15 + 7 * shape.length

    found = Polynomials.through(BOTH, {s: [size(s), 5] for s in SHAPES})
    assert found.at(Shape(1001, 4099)).tolist() == [size(Shape(1001, 4099)), 5]


def test_shapes_that_tell_too_little() -> None:
    with pytest.raises(InvalidArgument, match="do not tell"):
        BOTH.solving(SHAPES[:5])
    with pytest.raises(InvalidArgument, match="do not tell"):
        BOTH.solving([*SHAPES[:5], SHAPES[0]])


def test_a_size_that_is_no_polynomial_is_refused() -> None:
    traced = {s: step(s) for s in SHAPES}
    SizedStep.fit(BOTH, traced, {HELD: step(HELD)})
    with pytest.raises(CaptureError, match="no functions of batch and length"):
        SizedStep.fit(BOTH, traced, {HELD: step(HELD, odd=1)})


def test_temporaries_that_are_none_are_bounded_from_above() -> None:
    traced = {s: step(s, workspace=s.batch * s.length // 3) for s in SHAPES}
    held = step(HELD, workspace=120)
    fitted = SizedStep.fit(BOTH, traced, {HELD: held})
    assert fitted.bounded == 1
    for shape, footprint in {**traced, HELD: held}.items():
        assert fitted.footprint(shape).graph.ops[0].workspace >= footprint.graph.ops[0].workspace
    assert bound_through(BOTH, [(Shape(2, 3), 12), (Shape(4, 5), 40)])[3] == 2


def test_a_domain_ends_where_the_referee_says() -> None:
    fitted = SizedStep.fit(BOTH, {s: step(s) for s in SHAPES}, {HELD: step(HELD)})
    domain = Domain.of(fitted, Schedule((0, 1)))
    for length, budget in ((10, 20_000), (64, 1_000_000), (64, 50), (33, 99)):
        most = domain.largest_batch(length, budget)
        if most:
            assert domain.peak_bytes(Shape(most, length)) <= budget
        assert domain.peak_bytes(Shape(most + 1, length)) > budget
