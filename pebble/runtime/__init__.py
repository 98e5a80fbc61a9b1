"""What runs: a captured step by a schedule, as a module, and the check of it against the model."""

from pebble.runtime.planned_module import PlannedModule, build

__all__ = ["PlannedModule", "build"]
