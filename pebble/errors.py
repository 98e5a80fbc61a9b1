"""The errors and warnings of pebble: every one says what is wrong, where, and what to try."""

from __future__ import annotations

import math


class PebbleError(Exception):
    """Base of every error that pebble raises on purpose."""


class InvalidArgument(PebbleError, ValueError):
    """An argument has a value that cannot be meant (a negative budget, a model that is none)."""


class GraphError(PebbleError, ValueError):
    """A graph breaks its own rules: a cycle, a negative size, a value without a producer."""


class InvalidSchedule(PebbleError, ValueError):
    """A schedule breaks the rules of its problem; names the step, the op and the value."""


class UnknownSolver(PebbleError, LookupError):
    """No solver is registered under this name; lists those that are."""


class InfeasibleBudget(PebbleError):
    """No plan fits the budget; names the least budget known to work and what it is made of.

    Attributes
    ----------
    budget_bytes : int or None
        The budget asked for.
    least_bytes : int or None
        The least budget that a plan is known for (same units and scope as the budget).
    """

    def __init__(
        self, message: str, *, budget_bytes: int | None = None, least_bytes: int | None = None
    ) -> None:
        super().__init__(message)
        self.budget_bytes = budget_bytes
        self.least_bytes = least_bytes

    def of(self, subject: str) -> InfeasibleBudget:
        """The same of a model and inputs that are named."""
        told = f"No plan fits {subject}: {self}"
        return InfeasibleBudget(told, budget_bytes=self.budget_bytes, least_bytes=self.least_bytes)


class CaptureError(PebbleError):
    """The model's step could not be traced into one graph; names the user's line and a way out.

    Attributes
    ----------
    breaks_graph : bool
        Whether the forward, right as it may be, is no single graph: then a module-level plan may
        be made of it.
    """

    def __init__(self, message: str, *, breaks_graph: bool = False) -> None:
        super().__init__(message)
        self.breaks_graph = breaks_graph


class InputsRequired(PebbleError, ValueError):
    """The inputs of the model cannot be inferred; says what to pass."""


class PlanMismatch(PebbleError):
    """A plan does not belong to this model or these inputs; names the first difference.

    Attributes
    ----------
    reason : str
        The part of the sentence that says what was planned: the same for every call that differs
        in this.
    difference : str
        What was planned and what was found, without advice.
    found : str
        The part of the sentence that says what was found.
    """

    def __init__(self, message: str, *, planned: str = "", found: str = "") -> None:
        super().__init__(message)
        self.reason = planned or message
        self.found = found
        self.difference = f"{planned}{found}" or message

    @property
    def subject(self) -> str:
        """What differs, without its values.

        Examples
        --------
        >>> PlanMismatch("...", planned="'p' of 'drop' was 0.1", found=", but is 0.2.").subject
        "'p' of 'drop'"
        """
        return self.reason.partition(" was ")[0]


class PlanIsWrong(PebbleError):
    """A planned step gives other numbers than eager; names what differs first and by how much.

    Attributes
    ----------
    name : str
        What differs first, such as ``gradient of 'head.weight'``; "" where the step fails.
    relative : float
        The difference over the largest entry in eager.
    """

    def __init__(self, message: str, *, name: str = "", relative: float = math.inf) -> None:
        super().__init__(message)
        self.name = name
        self.relative = relative


class PlanFormatError(PebbleError, ValueError):
    """A plan file is damaged or of a version that this release does not read."""


class IllegalMove(PebbleError, ValueError):
    """A move of a pebbling strategy breaks a rule of its game; names the step, move and rule."""


class PebbleWarning(UserWarning):
    """Base of every warning that pebble issues about a plan."""


class PlanNotInEffect(PebbleWarning):
    """A training step runs, or will run, without its plan; says why."""


class StateNotKept(PebbleWarning):
    """A planned step leaves out what the forward does to Python objects; says to which."""


class CardWarning(PebbleWarning):
    """A step is planned for a card otherwise than was asked, or than is wise; says how."""


class BudgetNotKept(PebbleWarning):
    """A planned step may need more memory than its plan counts; says what was not counted."""
