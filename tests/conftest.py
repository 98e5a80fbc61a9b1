"""Fixtures of several rooms, and helpers whose assertions tell what they compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.tracing.capturing")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small ops wait for one another's threads for longer than they run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def seeded() -> None:
    """Every test draws the same numbers, whichever ran before."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forgetting() -> None:
    """No test knows the schedules that another has found."""
    known = sys.modules.get("pebble.plan.known_schedules")
    if known is not None:
        known.KNOWN.forget()
