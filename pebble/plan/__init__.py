"""What a user keeps: the plan, its file, its report, and the way from a model to it."""

from pebble.budget import Resident, Unplanned, live_kinds
from pebble.plan.loading import load_plan
from pebble.plan.plan import Plan

__all__ = ["Plan", "Resident", "Unplanned", "live_kinds", "load_plan"]
