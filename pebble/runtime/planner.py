"""What makes plans for the calls of a module, as the module that follows them sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from pebble.runtime.follower import Follower


@dataclass(frozen=True)
class Planned:
    """A plan that was made for a call.

    Attributes
    ----------
    member : Follower
    seconds : float
        That it took.
    overhead : float
        What is computed again, as a share of the step that keeps everything.
    eager_bytes : int
        Predicted peak of the step without a plan; 0: nobody said.
    """

    member: Follower
    seconds: float
    overhead: float = 0.0
    eager_bytes: int = 0


class Planner(Protocol):
    """Makes plans for the calls of a model; stands above the runtime.

    Attributes
    ----------
    beside_bytes : int
        That the next plan leaves room for: inputs that are held beside their padded copies.
    """

    beside_bytes: int

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Planned:
        """The plan for a call."""

    def has_open_trace(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> bool:
        """Whether a trace of open sizes holds for a call, so that its own shape is no trouble."""

    def better(self, member: Follower, model: nn.Module, /) -> Planned | None:
        """A better plan in place of a member's, where one was found beside training."""

    def count_gradients(self, counted: bool) -> bool:
        """Whether plans from now on count gradients that are there before; whether that is new."""
