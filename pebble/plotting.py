"""Front door: the pictures of plans and sweeps under the path that people import them from."""

from pebble.plan.plots import plot_memory, plot_tradeoff
from pebble.plan.schedule_plots import plot_matrices, plot_modules, plot_timeline

__all__ = ["plot_matrices", "plot_memory", "plot_modules", "plot_timeline", "plot_tradeoff"]
