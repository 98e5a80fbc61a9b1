"""The solvers, one strategy a file; the folders hold what strategies share.

Installed as ``pebble.solvers``. A new solver is a file here with a function under
`pebble.solver.register`, and one import below; the conformance tests find it by its name.
"""

if __name__ != "pebble.solvers":
    raise ImportError("Import pebble.solvers: this folder is installed under that name.")

from pebble.solvers import (
    anneal,
    auto,
    chain,
    cpsat,
    greedy,
    ilp,
    keep_all,
    lns,
    minpeak,
    priced,
    recompute_all,
    sqrt,
)

__all__ = [
    "anneal",
    "auto",
    "chain",
    "cpsat",
    "greedy",
    "ilp",
    "keep_all",
    "lns",
    "minpeak",
    "priced",
    "recompute_all",
    "sqrt",
]
