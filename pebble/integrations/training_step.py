"""A LightningModule's training_step as a module that can be planned, with what it logs."""

from __future__ import annotations

import contextlib
import dis
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_LOGGED = "pebble_logged"


class TrainingStep(nn.Module):
    """Its forward is the training step of a LightningModule.

    Parameters
    ----------
    owner : LightningModule
    """

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, *args: Any) -> dict[str, Any]:
        """The loss, what the step returns, and what it logs: name, value and options of each."""
        owner: Any = self.owner
        owner.pebble_logged = []
        output = type(owner).training_step(owner, *args)
        logged = owner.pebble_logged
        owner.pebble_logged = None
        loss = output if isinstance(output, torch.Tensor) else output["loss"]
        return {"loss": loss, "output": output, "logged": logged}


@contextlib.contextmanager
def logging_aside(owner: nn.Module) -> Iterator[None]:
    """Within it `log` and `log_dict` of a LightningModule only note what they are called with."""
    placed: dict[str, Callable[..., None]] = {"log": _log, "log_dict": _log_dict}
    before = {name: owner.__dict__[name] for name in placed if name in owner.__dict__}
    owner.__dict__.update({name: types.MethodType(f, owner) for name, f in placed.items()})
    owner.__dict__[_LOGGED] = None
    try:
        yield
    finally:
        for name in (*placed, _LOGGED):
            del owner.__dict__[name]
        owner.__dict__.update(before)


def without_unread(owner: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a training step, 0 for each number that it does not read.

    The index of a batch is another one at every step: read by nobody, it needs no other plan.
    """
    code = getattr(getattr(type(owner), "training_step", None), "__code__", None)
    if code is None:
        return args
    read = set(code.co_cellvars)
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith("LOAD"):
            named = instruction.argval
            read.update(named if isinstance(named, tuple) else (named,))
    names = code.co_varnames[1 : code.co_argcount]
    unread = {i for i, name in enumerate(names) if name not in read}
    return tuple(0 if i in unread and type(arg) is int else arg for i, arg in enumerate(args))


def _log(self: Any, name: str, value: Any, *args: Any, **options: Any) -> None:
    self.pebble_logged.append((name, value, args, options))


def _log_dict(self: Any, dictionary: Any, *args: Any, **options: Any) -> None:
    for name, value in dictionary.items():
        self.pebble_logged.append((name, value, args, options))
