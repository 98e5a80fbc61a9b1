"""Where a model may draw random numbers besides torch's global generators."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class RandomSources:
    """Python's and numpy's global generators, and those that a model or its code holds.

    Parameters
    ----------
    model : nn.Module
        Searched are its modules' attributes, and the globals and closures of their forwards.
    """

    def __init__(self, model: nn.Module) -> None:
        found = {id(g): g for m in model.modules() for g in _held_by(m)}
        self.own: list[Any] = list(found.values())

    def states(self) -> list[Any]:
        """The state of each, to be put back."""
        return [random.getstate(), _numpy().get_state(), *map(_state, self.own)]

    def restore(self, states: list[Any]) -> None:
        """Put states back."""
        random.setstate(states[0])
        _numpy().set_state(states[1])
        for generator, state in zip(self.own, states[2:]):
            _set_state(generator, state)

    def reseed(self, seed: int) -> None:
        """Other random numbers than before."""
        random.seed(seed)
        _numpy().seed(seed)
        for generator in self.own:
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)


def _numpy() -> Any:
    """The global generator of numpy, which models draw from whatever its makers advise."""
    draw: Any = np.random.random
    return draw.__self__


def _held_by(module: nn.Module) -> Iterator[Any]:
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    spaces: list[Iterable[Any]] = [list(vars(module).values())]
    if code is not None and not type(module).__module__.startswith("torch."):
        spaces.append([forward.__globals__.get(name) for name in code.co_names])
        spaces.append([_content(cell) for cell in forward.__closure__ or ()])
    for space in spaces:
        for value in space:
            inner = value if isinstance(value, (list, tuple)) else (value,)
            yield from (v for v in inner if isinstance(v, _KINDS))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
