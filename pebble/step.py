"""Front door: `pebble.measure.step` under the path that people import it from."""

from pebble.measure.step import Step, trace_step

__all__ = ["Step", "trace_step"]
