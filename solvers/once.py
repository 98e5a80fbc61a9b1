"""Front door: `pebble.solvers.edits.recompute_once` under its former path."""

from pebble.solvers.edits.recompute_once import RecomputeOnce

__all__ = ["RecomputeOnce"]
