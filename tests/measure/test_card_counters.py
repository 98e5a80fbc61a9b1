"""Counters and events of a card, on one that is made up: no card has been asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pebble.measure.card_counters import CardPeaks, card_peaks, seconds_of

CARD = torch.device("cuda")


class Card:
    """A card that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held, self.peak, self.now = 700, 900, 0.0

    def synchronize(self, device: Any) -> None:
        self.asked.append("synchronize")

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.asked.append("reset")
        self.peak = self.held

    def memory_stats(self, device: Any) -> dict[str, int]:
        return {
            "requested_bytes.all.peak": self.peak,
            "requested_bytes.all.current": self.held,
            "allocated_bytes.all.peak": self.peak + 24,
            "reserved_bytes.all.peak": 2 * self.peak,
        }

    def Event(self, enable_timing: bool) -> Any:
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, card: Card) -> None:
        self.card, self.at = card, -1.0

    def record(self) -> None:
        self.at = self.card.now

    def elapsed_time(self, other: Event) -> float:
        assert self.card.asked[-1] == "synchronize", "an event is read after it has come"
        return other.at - self.at


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card()
    for name in ("synchronize", "reset_peak_memory_stats", "memory_stats", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(made, name))
    return made


def test_peaks_are_absolute_and_of_the_run_alone(card: Card) -> None:
    def run() -> None:
        card.asked.append("run")
        card.peak = max(card.peak, card.held + 50)

    assert card_peaks(run, CARD) == CardPeaks(750, 774, 1500)
    assert card.asked == ["synchronize", "reset", "run", "synchronize"]


def test_seconds_are_those_between_two_events_over_the_runs(card: Card) -> None:
    def run() -> None:
        card.now += 3.0

    assert seconds_of(run, CARD, repeats=4) == pytest.approx(0.003)


def test_seconds_on_the_cpu_are_the_clock_s() -> None:
    runs: list[int] = []
    assert seconds_of(lambda: runs.append(1), torch.device("cpu"), repeats=3) > 0
    assert len(runs) == 3
