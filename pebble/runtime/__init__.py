"""What runs: a captured step by a schedule, as a module, and the check of it against the model."""

from pebble.runtime.planned_module import PlannedModule, build
from pebble.runtime.promise import Promise
from pebble.runtime.step_check import StepCheck

__all__ = ["PlannedModule", "Promise", "StepCheck", "build"]
