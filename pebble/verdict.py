"""What is known of a planned step beside eager's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Checked(StrEnum):
    """How a planned step stands beside eager's."""

    EQUAL = "equal"
    ROUNDED = "equal up to rounding"
    DUE = "due at the first planned call"
    SKIPPED = "skipped"
    OFF = "off"


@dataclass(frozen=True)
class Verdict:
    """How a planned step stands beside eager's, and why.

    Attributes
    ----------
    state : Checked
    reason : str
        Why it was skipped.

    Examples
    --------
    >>> print(Verdict(Checked.SKIPPED, "an eager step does not fit"))
    skipped: an eager step does not fit
    """

    state: Checked
    reason: str = ""

    @property
    def is_due(self) -> bool:
        """Whether the comparison is still to be made."""
        return self.state is Checked.DUE

    @property
    def of_another_step(self) -> Verdict:
        """What that says of a step of the same graph: to be compared, unless nobody asks."""
        return self if self.state is Checked.OFF else Verdict(Checked.DUE)

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)
