"""Front door: `pebble.plan.plots` under the path that people import it from."""

from pebble.plan.plots import plot_memory, plot_tradeoff

__all__ = ["plot_memory", "plot_tradeoff"]
