"""Logic netlists in the ISCAS ``.bench`` format, as graphs of their gates."""

from __future__ import annotations

import re
from pathlib import Path

from pebble.errors import GraphError
from pebble.games.literature.edges import graph_of_edges
from pebble.graph import Graph
from pebble.schema import shortened
from pebble.textfile import read_text

_PORT = re.compile(r"(INPUT|OUTPUT)\s*\(\s*([^\s()]+)\s*\)$", re.IGNORECASE)
_GATE = re.compile(r"(\S+?)\s*=\s*(\w+)(?:\s+0x[0-9a-fA-F]+)?\s*(?:\(([^()]*)\))?$")
_CONSTANTS = {"gnd", "vdd"}


def read_bench(file: str | Path, *, inverters: bool = False) -> Graph:
    """The gates of a netlist file; see `parse_bench`."""
    text = read_text(file, what="The netlist", error=GraphError)
    return parse_bench(text, name=Path(file).stem, inverters=inverters)


def parse_bench(text: str, *, name: str = "netlist", inverters: bool = False) -> Graph:
    r"""The gates of a netlist: one node each; primary inputs and constants are free and no nodes.

    Outputs are pinned. A gate of one input (a buffer or an inverter) works in place, on the
    pebble of what it reads, and is no node of its own unless `inverters` says so.

    Parameters
    ----------
    text : str
        Lines ``INPUT(a)``, ``OUTPUT(z)``, ``z = NAND(a, b)`` or ``z = LUT 0x8 (a, b)``;
        ``#`` starts a comment.

    Raises
    ------
    GraphError
        If a line cannot be read, a signal has no driver or two, the gates form a loop, or there
        is no gate.

    Examples
    --------
    >>> text = "INPUT(a)\nINPUT(b)\nOUTPUT(z)\nx = NAND(a, b)\ny = NOT(x)\nz = OR(y, a)"
    >>> [op.name for op in parse_bench(text).ops]
    ['x', 'z']
    """
    inputs, outputs, reads, same = _parse_lines(text, name, inverters)

    roots = _roots(same)

    def driver(signal: str) -> str | None:
        """The gate that makes a signal; None for inputs and constants."""
        signal = roots.get(signal, signal)
        if signal in inputs:
            return None
        if signal not in reads:
            raise GraphError(
                f"Signal {shortened(signal)} of netlist {name!r} is driven by nothing."
            )
        return signal

    found = {
        gate: list(dict.fromkeys(d for s in signals if (d := driver(s)) is not None))
        for gate, signals in reads.items()
    }
    if not found:
        raise GraphError(f"Netlist {name!r} has no gate, so there is nothing to pebble.")
    order = _topological(found, name)
    position = {gate: i for i, gate in enumerate(order)}
    targets = {d for out in outputs if (d := driver(out)) is not None}
    return graph_of_edges(
        len(order),
        [(position[u], position[gate]) for gate in order for u in found[gate]],
        name=name,
        names=order,
        targets=sorted(position[d] for d in targets),
    )


def _roots(same: dict[str, str]) -> dict[str, str]:
    """Where each chain of buffers and inverters begins; in a loop of them, one of the loop."""
    roots: dict[str, str] = {}
    for signal in same:
        chain: dict[str, None] = {}
        while signal in same and signal not in roots and signal not in chain:
            chain[signal] = None
            signal = same[signal]
        roots |= dict.fromkeys(chain, roots.get(signal, signal))
    return roots


def _parse_lines(
    text: str, name: str, inverters: bool
) -> tuple[set[str], list[str], dict[str, list[str]], dict[str, str]]:
    inputs: set[str] = set()
    outputs: list[str] = []
    reads: dict[str, list[str]] = {}
    same: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        port, gate = _PORT.match(line), _GATE.match(line)
        if port and port[1].upper() == "INPUT":
            inputs.add(port[2])
        elif port:
            outputs.append(port[2])
        elif gate and (gate[1] in reads or gate[1] in same or gate[1] in inputs):
            raise GraphError(
                f"Line {number} of netlist {name!r} drives {shortened(gate[1])} once more."
            )
        elif gate and gate[2].lower() in _CONSTANTS:
            inputs.add(gate[1])
        elif gate and gate[3] is not None:
            signals = [s.strip() for s in gate[3].split(",") if s.strip()]
            if len(signals) == 1 and not inverters:
                same[gate[1]] = signals[0]
            else:
                reads[gate[1]] = signals
        elif line:
            raise GraphError(
                f"Line {number} of netlist {name!r} cannot be read: {shortened(line)}."
            )
    return inputs, outputs, reads, same


def _topological(reads: dict[str, list[str]], name: str) -> list[str]:
    order: list[str] = []
    state: dict[str, int] = {}
    for root in reads:
        stack = [root]
        while stack:
            gate = stack[-1]
            if state.get(gate) == 2:
                stack.pop()
                continue
            open_reads = [u for u in reads[gate] if state.get(u) != 2]
            if any(state.get(u) == 1 for u in open_reads):
                raise GraphError(
                    f"The gates of netlist {name!r} form a loop through {shortened(gate)}."
                )
            state[gate] = 1
            if open_reads:
                stack += open_reads
            else:
                state[gate] = 2
                order.append(gate)
                stack.pop()
    return order
