"""A plan beside eager: compared when it is made, or at the first step that trains by it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from pebble.verdict import Checked, Verdict

if TYPE_CHECKING:
    from torch import nn

    from pebble.measure.step import Step
    from pebble.runtime.step_check import Planned
else:
    Planned = object


@dataclass(frozen=True, kw_only=True)
class Judged(Planned):
    """How a plan stands beside eager. A part of `pebble.plan.plan.Plan`.

    Attributes
    ----------
    checked : Verdict
        Of the planned step on the plan's own model and inputs.
    """

    checked: Verdict = field(default=Verdict(Checked.DUE), compare=False)

    if TYPE_CHECKING:

        @property
        def step(self) -> Step | None:
            """What the plan was made for in this process."""

    def compared(self, check: bool | None, seconds_left: float) -> Self:
        """The plan, compared with eager as asked.

        Parameters
        ----------
        check : bool or None
            True: now. False: never. None: now where it takes less than a second, else at the first
            planned training call.
        seconds_left : float
            Of the time limit: without being asked to, nothing is compared beyond it.

        Raises
        ------
        PlanIsWrong
            If the planned step gives other numbers than eager.
        InvalidArgument
            If it is to be compared and cannot be.
        """
        from pebble.runtime.step_check import StepCheck

        step = self.step
        assert step is not None
        if check is False:
            return replace(self, checked=Verdict(Checked.OFF))
        pending, ran = StepCheck.of(self, step.captured), (step.model, step.inputs)
        if check:
            return replace(self, checked=pending.insist(*ran))
        return replace(self, checked=pending.run_if_short(*ran, seconds_left))

    def judged(self, module: nn.Module) -> nn.Module:
        """A module that follows this plan, told how it stands or to find out at its first call."""
        from pebble.runtime.follower import follower_of
        from pebble.runtime.step_check import StepCheck

        step, follower = self.step, follower_of(module)
        assert step is not None
        if self.checked.is_due:
            follower.take_check(StepCheck.of(self, step.captured))
        else:
            follower.verdict = self.checked
        return module
