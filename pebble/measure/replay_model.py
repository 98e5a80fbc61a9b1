"""The peak of a step in which some calls keep their inputs only, from two measured steps.

One step keeps everything, one nothing but inputs. What a call takes off is the difference of what
the two hold more after it; what its own forward and backward need on top is measured in each.
Everything between is linear in the choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pebble.block_calls import BlockCall
from pebble.measure.step_timeline import Phase, Segment, StepTimeline

Moment = tuple[dict[int, int], int]
"""What each call takes off (negative: adds) in one part of the step, and its peak with all kept."""


@dataclass(frozen=True)
class ReplayModel:
    """The peak by choice of calls.

    Attributes
    ----------
    kept, replayed : StepTimeline
        Of the same step: everything kept, and every call replayed.
    """

    kept: StepTimeline
    replayed: StepTimeline

    @property
    def calls(self) -> tuple[BlockCall, ...]:
        """The calls, in the order of their forwards."""
        return self.kept.calls

    @property
    def comparable(self) -> bool:
        """Whether the two steps made the same calls in the same order."""
        return self.kept.calls == self.replayed.calls

    @cached_property
    def saved_bytes(self) -> tuple[int, ...]:
        """What each call takes off from its end to its backward."""
        kept, replayed = _grown(self.kept), _grown(self.replayed)
        return tuple(kept[at] - replayed[at] for at in self.calls)

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """The parts of the step."""
        number = {at: i for i, at in enumerate(self.calls)}
        other = {(s.phase, s.at): s for s in self.replayed.segments}
        dormant: dict[int, int] = {}
        current: int | None = None
        found: list[Moment] = []
        for segment in self.kept.segments:
            if current is not None:
                dormant[current] = self.saved_bytes[current]
            current = None
            takes = dict(dormant)
            if segment.at is not None:
                i = number[segment.at]
                more = _own_peak(other.get((segment.phase, segment.at), segment)) - _own_peak(
                    segment
                )
                takes[i] = takes.get(i, 0) - more
                if segment.phase is Phase.FORWARD:
                    current = i
                else:
                    dormant.pop(i, None)
            found.append((takes, segment.peak_bytes))
        return tuple(found)

    def peak_bytes(self, chosen: Collection[int]) -> int:
        """The peak where these calls, by number, keep their inputs only."""
        return max(peak - sum(takes.get(i, 0) for i in chosen) for takes, peak in self.moments)

    def needs(self, room_bytes: int) -> list[tuple[Mapping[int, int], int]]:
        """What has to be taken off in each part, for a step of at most so many bytes."""
        return [(takes, peak - room_bytes) for takes, peak in self.moments if peak > room_bytes or
                any(size < 0 for size in takes.values())]  # fmt: skip


def _own_peak(segment: Segment) -> int:
    return segment.peak_bytes - segment.level_bytes


def _grown(timeline: StepTimeline) -> dict[BlockCall, int]:
    """What is held more when the next part begins than when a call's forward began."""
    found = {}
    segments = timeline.segments
    for segment, after in pairwise(segments):
        if segment.phase is Phase.FORWARD and segment.at is not None:
            found[segment.at] = after.level_bytes - segment.level_bytes
    return found
