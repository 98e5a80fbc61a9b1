"""A step of which every size is a function of batch and length, fitted to a few traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pebble.budget import Footprint, Resident
from pebble.errors import CaptureError
from pebble.graph import Graph
from pebble.plan.families.polynomials import Basis, Polynomials, Shape, bound_through
from pebble.plan.wired_schedules import wiring


@dataclass(frozen=True)
class SizedStep:
    """A step at any shape, without tracing it there.

    Attributes
    ----------
    graph : Graph
        At one of the shapes that it was fitted to.
    kinds : tuple of str
        What is resident, in the order of `resident`.
    sizes, workspaces, costs : Polynomials
        Of values and ops.
    resident : Polynomials
        Bytes by kind, then the peak of the optimizer's step.
    bounded : int
        Ops whose temporaries are bounded, not known.
    """

    graph: Graph = field(repr=False)
    kinds: tuple[str, ...]
    sizes: Polynomials = field(repr=False)
    workspaces: Polynomials = field(repr=False)
    costs: Polynomials = field(repr=False)
    resident: Polynomials = field(repr=False)
    bounded: int = 0

    @classmethod
    def fit(
        cls,
        basis: Basis,
        traced: Mapping[Shape, Footprint],
        held_out: Mapping[Shape, Footprint],
    ) -> SizedStep:
        """The functions through traced steps, checked on others.

        Parameters
        ----------
        basis : Basis
        traced : mapping of Shape to Footprint
            As many as the basis has products.
        held_out : mapping of Shape to Footprint
            Sizes must be met there to the byte. Temporaries that are not are bounded from above by
            a multiple of one product of the basis.

        Raises
        ------
        CaptureError
            If the shapes have other ops, or sizes that are no such functions.
        """
        first = next(iter(traced.values()))
        kinds = tuple(first.resident.kinds)
        known = {**traced, **held_out}
        for shape, step in known.items():
            if wiring(step.graph) != wiring(first.graph) or tuple(step.resident.kinds) != kinds:
                raise CaptureError(f"A batch of {shape} has other ops than {next(iter(traced))}.")

        def through(numbers: Any) -> Polynomials:
            return Polynomials.through(basis, {s: numbers(step) for s, step in traced.items()})

        sizes, resident = through(_sizes), through(_resident)
        for shape, step in held_out.items():
            for what, fitted, found in (
                ("values", sizes, _sizes(step)),
                ("what is resident", resident, _resident(step)),
            ):
                wrong = _differences(fitted, shape, found)
                if len(wrong):
                    raise CaptureError(
                        f"The sizes of {len(wrong)} {what} are no functions of batch and length "
                        f"(at {shape}: {found[wrong[0]]} bytes, not {fitted.at(shape)[wrong[0]]})."
                    )
        workspaces = through(_workspaces)
        apart = {
            int(i)
            for shape, step in held_out.items()
            for i in _differences(workspaces, shape, _workspaces(step))
        }
        points = [(shape, _workspaces(step)) for shape, step in known.items()]
        bounds = {i: bound_through(basis, ((s, w[i]) for s, w in points)) for i in apart}
        return cls(
            first.graph, kinds, sizes, workspaces.replaced(bounds), through(_costs), resident,
            len(bounds),
        )  # fmt: skip

    @cached_property
    def wiring(self) -> str:
        """What is computed from what."""
        return wiring(self.graph)

    def footprint(self, shape: Shape) -> Footprint:
        """The step at a shape."""
        *kinds, peak = self.resident.at(shape).tolist()
        return Footprint(
            self.graph.with_measures(
                sizes=self.sizes.at(shape).tolist(),
                workspaces=self.workspaces.at(shape).tolist(),
                costs=self.costs.at(shape).tolist(),
            ),
            Resident(dict(zip(self.kinds, kinds)), peak),
        )

    @cached_property
    def sampled(self) -> tuple[NDArray[np.float64], tuple[Footprint, ...]]:
        """The step at some shapes, and how coefficients follow from numbers there.

        Row k of the array: by what the number at shape k enters each coefficient.
        """
        basis = self.sizes.basis
        batches = (2, 3) if any(b for b, _ in basis.powers) else (1,)
        lengths = (2, 3, 4) if any(n for _, n in basis.powers) else (0,)
        shapes = [Shape(b, n) for n in lengths for b in batches]
        solving = np.array([[float(x) for x in row] for row in basis.solving(shapes)])
        return solving, tuple(self.footprint(shape) for shape in shapes)

    def has_sizes_of(self, shape: Shape, graph: Graph) -> bool:
        """Whether a traced graph is this step at a shape, to the byte of every value."""
        if wiring(graph) != self.wiring:
            return False
        if not any(n for _, n in self.sizes.basis.powers):
            shape = Shape(shape.batch)
        found = [0 if value.external else value.size for value in graph.values]
        return bool((self.sizes.at(shape) == np.array(found, np.int64)).all())

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "graph": self.graph.to_json(),
            "kinds": list(self.kinds),
            "powers": [list(pair) for pair in self.sizes.basis.powers],
            "sizes": self.sizes.to_json(),
            "workspaces": self.workspaces.to_json(),
            "costs": self.costs.to_json(),
            "resident": self.resident.to_json(),
            "bounded": self.bounded,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SizedStep:
        """From what `to_json` gives."""
        basis = Basis(tuple((int(b), int(n)) for b, n in data["powers"]))
        parts = {
            name: Polynomials.from_json(basis, data[name])
            for name in ("sizes", "workspaces", "costs", "resident")
        }
        graph = Graph.from_json(data["graph"])
        return cls(graph, tuple(data["kinds"]), bounded=int(data["bounded"]), **parts)


def _differences(fitted: Polynomials, shape: Shape, found: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.flatnonzero(fitted.at(shape) != np.array(found, np.int64))


def _sizes(step: Footprint) -> list[int]:
    """Of the values; what is outside of the graph is counted as resident."""
    return [0 if value.external else value.size for value in step.graph.values]


def _workspaces(step: Footprint) -> list[int]:
    return [op.workspace for op in step.graph.ops]


def _costs(step: Footprint) -> list[int]:
    return [op.cost for op in step.graph.ops]


def _resident(step: Footprint) -> list[int]:
    return [*step.resident.kinds.values(), step.resident.optimizer_step_peak]
