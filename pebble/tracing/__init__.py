"""Capture of a training step: a model and its inputs become a Graph, and the way back."""

from pebble.tracing.captured import Captured, State
from pebble.tracing.signature import Output, OutputKind, Slot, SlotKind
from pebble.tracing.step_capture import capture

__all__ = ["Captured", "Output", "OutputKind", "Slot", "SlotKind", "State", "capture"]
