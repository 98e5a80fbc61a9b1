"""Netlists as graphs of their gates."""

from __future__ import annotations

import pytest

from pebble.errors import GraphError
from pebble.games import Reversible, formulas, least_cost, parse_bench

C17 = """
INPUT(a)
INPUT(b)
INPUT(c)
INPUT(d)
INPUT(e)
OUTPUT(y)
OUTPUT(z)
g1 = NAND(a, c)  # the textbook circuit of six NAND gates
g2 = NAND(c, d)
g3 = NAND(b, g2)
g4 = NAND(g2, e)
y = NAND(g1, g3)
z = NAND(g3, g4)
"""


def test_netlists() -> None:
    graph = parse_bench(C17, name="c17")
    assert [op.name for op in graph.ops] == ["g1", "g2", "g3", "g4", "y", "z"]
    assert least_cost(graph, Reversible()).cost == formulas.reversible_moves(graph) == 10
    wires = "INPUT(a)\nOUTPUT(o)\nOUTPUT(p)\nx = LUT 0x8 (a, a)\no = LUT 0x1 (x)\np = BUFF(x)"
    assert len(parse_bench(wires).ops) == 1
    assert len(parse_bench(wires, inverters=True).ops) == 3
    assert len(parse_bench("OUTPUT(z)\nn0 = gnd\nz = AND(n0, n0)").ops) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = NOT", "cannot be read"),
        ("OUTPUT(z)\nz = AND(a, b)", "'a' of netlist 'netlist' is driven by nothing"),
        ("INPUT(a)\nz = AND(a, a)\nz = OR(a, a)", "drives 'z' once more"),
        ("OUTPUT(x)\nx = AND(y, y)\ny = AND(x, x)", "loop"),
    ],
)
def test_wrong_netlists(text: str, sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence):
        parse_bench(text)
