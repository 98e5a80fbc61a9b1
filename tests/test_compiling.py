"""How kernels are compiled."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from pebble import compiling


def test_without_a_cache_directory_it_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling.numba, "njit", njit)
    assert compiling.entry(len)([0]) == 1


def test_a_thread_can_compile_without_touching_the_filters_of_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught: list[bool] = []

    class Catching(warnings.catch_warnings):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            caught.append(True)
            super().__init__(**options)

    monkeypatch.setattr(warnings, "catch_warnings", Catching)
    with compiling.without_catching_warnings():
        assert compiling.numba.njit(lambda x: x + 1)(1) == 2
    assert not caught
    assert compiling.numba.njit(lambda x: x + 1)(1) == 2
    assert caught, "outside, numba catches warnings"
