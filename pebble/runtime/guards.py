"""What a plan was made for, and the check of every call against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.runtime.input_guard import InputGuard, WriteGuard
from pebble.runtime.model_guard import ModelGuard
from pebble.runtime.python_guard import PythonGuard
from pebble.runtime.tensor_spec import TensorSpec, mismatch
from pebble.tracing.captured import Captured
from pebble.tracing.signature import SlotKind
from pebble.tracing.torch_private.autocast_regions import casts_are_cached


@dataclass(frozen=True)
class Guards:
    """Everything that a call must have in common with the capture."""

    model: ModelGuard
    inputs: InputGuard
    order: tuple[int, ...]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    writes: WriteGuard
    python: PythonGuard | None = None
    casts_cached: bool | None = None

    @classmethod
    def of(cls, model: nn.Module, captured: Captured) -> Guards:
        """The guards of a captured step, for a model of the captured kind."""
        fed = [slot for slot in captured.slots if slot.fed]
        inputs = [slot for slot in fed if slot.kind is SlotKind.INPUT]
        held = [slot for slot in fed if slot.kind in (SlotKind.PARAMETER, SlotKind.BUFFER)]
        found = [slot for slot in fed if slot.kind is SlotKind.CONSTANT]
        position = {slot.node: i for i, slot in enumerate([*held, *inputs, *found])}
        specs = tuple(TensorSpec.of(slot, slot.node in captured.gradients) for slot in inputs)
        return cls(
            ModelGuard.of(model, captured, held),
            InputGuard(
                specs,
                captured.state.constants,
                {slot.name: slot.aliases for slot in inputs if slot.aliases},
            ),
            tuple(position[slot.node] for slot in fed),
            captured.state.autocast,
            WriteGuard.of(fed, captured.outputs),
            PythonGuard.of(model, captured, held),
            captured.state.casts_cached,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"python": None}

    def known(self, model: nn.Module, captured: Captured) -> Guards:
        """These guards with those of Python values, which no file holds."""
        return self if self.python is not None else Guards.of(model, captured)

    def match(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The tensors of a call, one per slot that is fed, in slot order.

        Raises
        ------
        PlanMismatch
            With the first difference.
        """
        for device, enabled, dtype in self.autocast:
            now, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
            if now is not enabled or (now and kind is not dtype):
                raise mismatch(
                    f"Autocast was {_say_autocast(enabled, dtype)} at planning",
                    f", but is {_say_autocast(now, kind)}.",
                )
        _check_cache(self.casts_cached)
        found = self.model.match(model)
        python = [] if self.python is None else self.python.match(model, found)
        found = [*found, *self.inputs.match(model.forward, args, kwargs), *python]
        if self.python is None:
            return found
        tensors = [found[i] for i in self.order]
        self.writes.check(tensors)
        return tensors

    def step(
        self, model: nn.Module, run: Callable[[list[torch.Tensor]], Any], given: list[torch.Tensor]
    ) -> Any:
        """What a step returns, after it has set on the model what the forward sets."""
        if self.python is None or not self.python.writes.writes:
            return run(given)
        values = self.python.touched(model)
        made = run(given)
        self.python.writes.apply(values, made.more)
        return made.output


def _check_cache(cached: bool | None) -> None:
    if cached is not None and casts_are_cached() is not cached:
        was, now = ("kept", "are not") if cached else ("not kept", "are")
        raise mismatch(
            f"Autocast's cast weights were {was} from use to use at planning (cache_enabled)",
            f", but {now} now.",
        )


def _say_autocast(enabled: bool, dtype: torch.dtype) -> str:
    return f"on ({dtype})" if enabled else "off"
