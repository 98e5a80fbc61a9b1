"""The attributes that a traced forward sets, and how their new values are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pebble.tracing.python_reads import Formula


@dataclass(frozen=True)
class Made:
    """Stands for a tensor that the step makes: its position among those that are written."""

    index: int


@dataclass(frozen=True)
class Write:
    """An attribute that the forward sets: of the object at `place`; see `written`."""

    place: int
    attribute: str
    value: Any


@dataclass(frozen=True)
class PythonWrites:
    """All attributes that a forward sets."""

    writes: tuple[Write, ...] = ()

    def places(self) -> tuple[int, ...]:
        """Of the objects whose attributes are set, and of what the new values are made of."""
        found: list[int] = []
        for write in self.writes:
            found += [write.place, *_places(write.value)]
        return tuple(dict.fromkeys(found))

    def apply(self, values: Mapping[int, Any], tensors: Sequence[Any]) -> None:
        """Set every attribute, as the forward would.

        Parameters
        ----------
        values : mapping
            Of the places, as they were before the step.
        tensors : sequence of Tensor
            Those that are written, of the step that was taken.
        """
        made = [written(write.value, values, tensors) for write in self.writes]
        for write, value in zip(self.writes, made):
            setattr(values[write.place], write.attribute, value)


def _places(value: Any) -> list[int]:
    if isinstance(value, Formula):
        return [place for _, place in value.symbols]
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, (tuple, list, dict)):
        return [place for part in parts for place in _places(part)]
    return []


def written(value: Any, values: Mapping[int, Any], tensors: Sequence[Any]) -> Any:
    """A new value, its stand-ins replaced."""
    if isinstance(value, Made):
        return tensors[value.index]
    if isinstance(value, Formula):
        return value.value(values)
    if isinstance(value, (tuple, list)):
        return type(value)(written(part, values, tensors) for part in value)
    if isinstance(value, dict):
        return {key: written(part, values, tensors) for key, part in value.items()}
    return value
