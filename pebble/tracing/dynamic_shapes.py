"""Which sizes vary, told by the user in the notation of torch.export."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.export import Dim

from pebble.errors import InvalidArgument
from pebble.tracing.inputs import Inputs
from pebble.tracing.open_dimensions import OpenSizes, Place, form_and_sizes, grouped

_HINT = type(Dim.AUTO)
_NOTATION = (
    'Write it as torch.export does: {"input_ids": {0: Dim("batch"), 1: Dim("length", max=1024)}}, '
    "a mapping (or a tuple) over the arguments of forward, and for each tensor a mapping from "
    "dimensions to Dim, Dim.AUTO, Dim.DYNAMIC or Dim.STATIC."
)


@dataclass(frozen=True)
class Span:
    """A name for sizes that are one, and the least and the most that they may be."""

    name: str
    low: int
    high: float


@dataclass(frozen=True)
class DynamicShapes:
    """Sizes that vary.

    Attributes
    ----------
    spans : mapping from (name of an argument, path inside of it, dimension) to Span or None
        None: whatever has the same size is the same.
    """

    spans: Mapping[tuple[str, str, int], Span | None]

    @classmethod
    def of(cls, model: nn.Module, given: Any) -> DynamicShapes | None:
        """From what the user gave; None for None.

        Raises
        ------
        InvalidArgument
            If an argument is not one of forward's, or something else is not in this notation.
        """
        if given is None:
            return None
        found: dict[tuple[str, str, int], Span | None] = {}
        for name, part in _by_name(model, given).items():
            _gather(found, name, "", part)
        spans: dict[str, Span] = {}
        for span in found.values():
            if span is not None and spans.setdefault(span.name, span) != span:
                raise InvalidArgument(
                    f"dynamic_shapes has two Dim named {span.name!r} with other bounds; use one."
                )
        if not found:
            raise InvalidArgument(f"dynamic_shapes leaves no size open. {_NOTATION}")
        return cls(found)

    def open(self, model: nn.Module, inputs: Inputs) -> OpenSizes | None:
        """What is left open at a call; None if it is outside of the bounds, or of sizes 0 and 1.

        Raises
        ------
        InvalidArgument
            If an input has no such dimension, or sizes of one name differ.
        """
        columns: dict[Place, Any] = {}
        _, sizes = form_and_sizes(inputs)
        names = _names(model, inputs)
        for (name, inner, axis), span in self.spans.items():
            if name not in names:
                continue  # an argument that this call leaves out
            place = names[name] + inner, axis
            if place not in sizes:
                raise InvalidArgument(
                    f"dynamic_shapes names dimension {axis} of {name}{inner}, which this call "
                    f"does not have: {_shape_of(sizes, place[0])}."
                )
            if span is not None and not span.low <= sizes[place] <= span.high:
                return None
            columns[place] = sizes[place] if span is None else span.name
        groups = grouped(columns, set(columns.values()))
        for group in groups:
            _check_one_size(group, columns[group[0]], sizes)
        found = OpenSizes.of(groups, sizes)
        return found if found.groups else None


def _check_one_size(group: Sequence[Place], name: Any, sizes: Mapping[Place, int]) -> None:
    if len({sizes[place] for place in group}) > 1:
        told = ", ".join(f"{path} has {sizes[path, d]} in dimension {d}" for path, d in group)
        raise InvalidArgument(
            f"dynamic_shapes says that {name!r} is one size, but {told}. Give sizes that differ "
            "a Dim each."
        )


def _by_name(model: nn.Module, given: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    loose = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if isinstance(given, (tuple, list)):
        if len(given) > len(named):
            raise InvalidArgument(
                f"dynamic_shapes has {len(given)} entries; {type(model).__name__}.forward takes "
                f"{len(named)} arguments. {_NOTATION}"
            )
        return dict(zip(named, given))
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"dynamic_shapes is a {type(given).__name__}. {_NOTATION}")
    for name in given:
        if name not in named and not loose:
            raise InvalidArgument(
                f"dynamic_shapes names {name!r}, which {type(model).__name__}.forward does not "
                f"take; it takes {', '.join(named) or 'nothing'}."
            )
    return dict(given)


def _gather(
    found: dict[tuple[str, str, int], Span | None], name: str, inner: str, part: Any
) -> None:
    """Read one argument: dimensions of a tensor, or a container of such."""
    if part is None:
        return
    if isinstance(part, Mapping) and all(isinstance(key, int) for key in part):
        for axis, dim in part.items():
            _note(found, (name, inner, axis), dim)
    elif isinstance(part, (tuple, list)) and all(_is_dim(dim) for dim in part):
        for axis, dim in enumerate(part):
            _note(found, (name, inner, axis), dim)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            _gather(found, name, f"{inner}[{key!r}]", value)
    elif isinstance(part, (tuple, list)):
        for i, value in enumerate(part):
            _gather(found, name, f"{inner}[{i}]", value)
    else:
        raise InvalidArgument(f"dynamic_shapes has {part!r} for {name}{inner}. {_NOTATION}")


def _is_dim(dim: Any) -> bool:
    return dim is None or isinstance(dim, (int, Dim, _HINT))


def _note(
    found: dict[tuple[str, str, int], Span | None], key: tuple[str, str, int], dim: Any
) -> None:
    name, inner, axis = key
    where = f"dimension {axis} of {name}{inner}"
    if axis < 0:
        raise InvalidArgument(f"dynamic_shapes names {where}; count from 0.")
    if dim is None or isinstance(dim, int) or dim == Dim.STATIC:
        return
    if isinstance(dim, _HINT):
        found[key] = None
    elif not isinstance(dim, Dim):
        raise InvalidArgument(f"dynamic_shapes has {dim!r} for {where}. {_NOTATION}")
    elif hasattr(dim, "root"):
        raise InvalidArgument(
            f"dynamic_shapes has {dim.__name__} for {where}, which is computed from another Dim; "
            "give it one of its own: how sizes depend on one another is found by the trace."
        )
    else:
        found[key] = Span(dim.__name__, dim.min, dim.max)


def _names(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """By the name of an argument, where it stands in a call."""
    try:
        parameters = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        parameters = []
    positional = {name: f"args[{i}]" for i, name in enumerate(parameters[: len(inputs.args)])}
    return positional | {name: f"kwargs[{name!r}]" for name in inputs.kwargs}


def _shape_of(sizes: Mapping[Place, int], path: str) -> str:
    shape = [n for (other, _), n in sizes.items() if other == path]
    return f"its shape is {shape}" if shape else f"there is no tensor {path}"
