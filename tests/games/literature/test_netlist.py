"""Netlists as graphs of their gates."""

from __future__ import annotations

from pathlib import Path

import pytest

from pebble.errors import GraphError
from pebble.games import Reversible, formulas, least_cost, parse_bench, read_bench

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
        ("OUTPUT(x)\nx = NOT(y)\ny = NOT(x)\nz = AND(x, y)", "is driven by nothing"),
        ("OUTPUT(" + "x" * 5000 + ")\nz = AND(y, y)\n", "is driven by nothing"),
    ],
)
def test_wrong_netlists(text: str, sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence) as error:
        parse_bench(text)
    assert len(str(error.value)) < 300


def test_a_long_chain_of_inverters_ends_where_it_begins() -> None:
    chain = "".join(f"n{i} = NOT(n{i - 1})\n" for i in range(1, 20_000))
    ends = "".join(f"OUTPUT(n{i})\n" for i in range(1, 20_000))
    graph = parse_bench(f"INPUT(a)\n{ends}{chain}n0 = AND(a, a)\n")
    assert [op.name for op in graph.ops] == ["n0"]
    assert graph.values[0].pinned


def test_a_netlist_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.bench").write_bytes(b"\xff")
    for file in (tmp_path / "a.bench", tmp_path / "missing.bench", "a\0b"):
        with pytest.raises(GraphError, match="cannot be read"):
            read_bench(file)
