"""Training loops replayed in the simulated allocator: what they request, take up and reserve."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pebble.allocator.blocks import Block
from pebble.allocator.caching import CachingAllocator, OutOfCardMemory
from pebble.allocator.rules import LARGE_ROUNDING_BYTES, AllocatorSettings
from pebble.allocator.training_events import TrainingEvents

STEPS = 3
"""Of training that are replayed: the first makes the optimizer's state, the next finds the holes
that this has left, the third shows that no more is reserved."""


@dataclass(frozen=True)
class AllocatorPeaks:
    """Peaks of a training loop in the caching allocator, in bytes.

    Attributes
    ----------
    requested : int
        What tensors asked for.
    allocated : int
        Of the blocks that they are in (`torch.cuda.max_memory_allocated`).
    reserved : int
        Of all segments (`torch.cuda.max_memory_reserved`): what a card runs out of.
    releases : int
        How often segments were given back because the limit was reached.
    """

    requested: int
    allocated: int
    reserved: int
    releases: int = 0

    @property
    def rounding(self) -> int:
        """What blocks are larger than their tensors."""
        return self.allocated - self.requested

    @property
    def fragmentation(self) -> int:
        """What is reserved beyond the blocks in use, each at its peak."""
        return self.reserved - self.allocated


def replay(
    events: TrainingEvents, settings: AllocatorSettings | None = None, *, steps: int = STEPS
) -> AllocatorPeaks:
    """Run a training loop in the simulated allocator.

    Raises
    ------
    OutOfCardMemory
        If the settings have a limit and the loop does not run within it.

    Examples
    --------
    >>> from pebble.allocator.training_events import Event, TrainingEvents
    >>> loop = TrainingEvents((100,), (Event(0, 2**21), Event(0, 0)), (), (50,), ())
    >>> replay(loop)
    AllocatorPeaks(requested=2097302, allocated=2098176, reserved=23068672, releases=0)
    """
    card = CachingAllocator(settings)
    for size in events.resident:
        card.allocate(size)
    for number in range(steps):
        there: dict[int, Block] = {}
        for tensor, size in events.step:
            if size:
                there[tensor] = card.allocate(size)
            else:
                card.free(there.pop(tensor))
        if number == 0:
            for size in events.optimizer_state:
                card.allocate(size)
        for block in [card.allocate(size) for size in events.temporaries]:
            card.free(block)
        for tensor in events.held:
            card.free(there.pop(tensor))
    return AllocatorPeaks(
        card.requested_peak, card.allocated_peak, card.reserved_peak, card.releases
    )


def runs_within(events: TrainingEvents, limit_bytes: int, settings: AllocatorSettings) -> bool:
    """Whether a training loop runs where no more than this may be reserved."""
    try:
        replay(events, replace(settings, limit_bytes=limit_bytes))
    except OutOfCardMemory:
        return False
    return True


def least_limit(events: TrainingEvents, settings: AllocatorSettings | None = None) -> int:
    """The least limit found that a training loop runs within, to 2 MB, by bisection.

    It may be below what the loop reserves without a limit: at the limit, unused segments are
    given back.
    """
    settings = settings or AllocatorSettings()
    peaks = replay(events, replace(settings, limit_bytes=None))
    below, enough = peaks.allocated - 1, peaks.reserved
    while enough - below > LARGE_ROUNDING_BYTES:
        middle = (below + enough) // 2
        if runs_within(events, middle, settings):
            enough = middle
        else:
            below = middle
    return enough
