"""What an optimizer keeps and takes where gradients of tables are sparse.

A step over rows is run for real, on tables that hold no more rows than one gradient has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.errors import InvalidArgument
from pebble.measure.allocator import trace_memory
from pebble.measure.optimizers import (
    OptimizerMemory,
    Weight,
    optimizer_memory,
    state_bytes,
    without_state,
)
from pebble.tracing.torch_private.sparse_rows import sparse_tensor

Make = Callable[[Sequence[torch.Tensor]], torch.optim.Optimizer]
SPARSE_ADAM = "sparse_adam"
_BY_NAME: dict[str, tuple[str, Make]] = {
    "sgd": ("sgd", lambda tables: torch.optim.SGD(tables, lr=0.1)),
    SPARSE_ADAM: ("adam", lambda tables: torch.optim.SparseAdam(list(tables))),
}
"""Name -> the one that steps over dense gradients, and what steps over sparse ones."""


@dataclass(frozen=True)
class Table:
    """A trainable table whose gradient is sparse.

    Attributes
    ----------
    weight : Weight
    rows : int
        The most that its gradient has.
    key : int or None
        ``id`` of the parameter, where it is known.
    """

    weight: Weight
    rows: int
    key: int | None = None

    def small(self) -> torch.nn.Parameter:
        """A real table of these rows alone, with a gradient that meets each of them."""
        height, *width = self.weight.shape
        height = min(height, self.rows)
        made = torch.nn.Parameter(torch.zeros(height, *width, dtype=self.weight.dtype))
        indices = (torch.arange(self.rows) % max(height, 1)).unsqueeze(0)
        values = torch.ones(self.rows, *width, dtype=self.weight.dtype)
        made.grad = sparse_tensor(indices, values, height)
        return made


def sparse_optimizer_memory(
    optimizer: str | torch.optim.Optimizer | None,
    weights: Sequence[Weight],
    tables: Sequence[Table],
    *,
    device: str = "cpu",
    implementation: str | None = None,
    trained: Container[int] | None = None,
) -> OptimizerMemory:
    """Memory of an optimizer over parameters some of which get sparse gradients.

    Parameters
    ----------
    optimizer : str, torch.optim.Optimizer or None
        ``"sgd"``; ``"sparse_adam"``: SparseAdam over the tables and Adam over the rest; or one.
    weights : sequence of Weight
        Those with dense gradients.
    tables : sequence of Table
    device, implementation, trained
        As for `pebble.measure.optimizers.optimizer_memory`.

    Raises
    ------
    InvalidArgument
        If the optimizer takes no sparse gradients, or keeps some that grow.
    """
    if not tables or optimizer is None:
        return optimizer_memory(
            optimizer, weights, device=device, implementation=implementation, trained=trained
        )
    if not isinstance(optimizer, str):
        return _of_object(optimizer, tables, device, implementation, trained)
    name = optimizer.lower()
    if name not in _BY_NAME:
        optimizer_memory(optimizer, ())  # refuses a name that is not known at all
        raise InvalidArgument(
            f"Optimizer {optimizer!r} takes no sparse gradients, and the step makes some. Choose "
            f"one of {', '.join(_BY_NAME)} (SparseAdam for the tables, Adam for the rest), pass "
            "the torch.optim.Optimizer that steps over them, or use sparse=False."
        )
    other, make = _BY_NAME[name]
    dense = optimizer_memory(other, weights, device=device, implementation=implementation)
    return _joined(name, dense, _over_tables(name, make, tables))


def _joined(name: str, dense: OptimizerMemory, sparse: OptimizerMemory) -> OptimizerMemory:
    temporaries = max(dense.temporaries, sparse.temporaries)
    return OptimizerMemory(name, dense.state + sparse.state, temporaries, dense.host)


def _over_tables(name: str, make: Make, tables: Sequence[Table]) -> OptimizerMemory:
    small = [table.small() for table in tables]
    if not small:
        return OptimizerMemory(name, 0, 0)
    optimizer = make(small)
    optimizer.step()
    taken = trace_memory(optimizer.step).peak
    state = 0
    for parameter, table in zip(small, tables):
        for kept in optimizer.state[parameter].values():
            if not isinstance(kept, torch.Tensor):
                continue
            if kept.layout is not torch.strided:
                raise InvalidArgument(
                    f"{type(optimizer).__name__} keeps sparse tensors for sparse gradients, which "
                    "grow with every step. Use it without momentum, SparseAdam, or sparse=False."
                )
            whole = kept.shape == parameter.shape
            state += table.weight.numel * kept.itemsize if whole else kept.nbytes
    return OptimizerMemory(name, state, taken)


def _of_object(
    optimizer: torch.optim.Optimizer,
    tables: Sequence[Table],
    device: str,
    implementation: str | None,
    trained: Container[int] | None,
) -> OptimizerMemory:
    name = type(optimizer).__name__
    by_key = {table.key: table for table in tables}
    held = [[by_key.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    dense = OptimizerMemory(name, 0, 0)
    rest = without_state(optimizer)
    rest.param_groups = [
        {**group, "params": [p for p, table in zip(group["params"], found) if table is None]}
        for group, found in zip(optimizer.param_groups, held)
    ]
    rest.param_groups = [group for group in rest.param_groups if group["params"]]
    if rest.param_groups:
        dense = optimizer_memory(
            rest, (), device=device, implementation=implementation, trained=trained
        )
    mine = [table for found in held for table in found if table is not None]
    try:
        sparse = _over_tables(name, lambda small: _twin(optimizer, held, small), mine)
    except InvalidArgument:
        raise
    except Exception as error:  # whatever an optimizer may raise on what it does not like
        raise InvalidArgument(
            f"{name} cannot step over the sparse gradients that the step makes ({error}). Pass "
            "torch.optim.SparseAdam or SGD over these parameters, or use sparse=False."
        ) from error
    memory = _joined(name, dense, sparse)
    existing = state_bytes(optimizer, (torch.device(device).type,))
    return OptimizerMemory(name, max(existing, memory.state), memory.temporaries, memory.host)


def _twin(
    optimizer: torch.optim.Optimizer,
    held: Sequence[Sequence[Table | None]],
    small: Sequence[torch.Tensor],
) -> torch.optim.Optimizer:
    """One of the same class and options over small tables in place of the large ones."""
    make: Any = type(optimizer)
    accepted = inspect.signature(make).parameters
    left = iter(small)
    groups = []
    for group, found in zip(optimizer.param_groups, held):
        options = {k: v for k, v in group.items() if k in accepted and k != "params"}
        params = [next(left) for table in found if table is not None]
        if params:
            groups.append({**options, "params": params})
    options = {k: v for k, v in optimizer.defaults.items() if k in accepted}
    twin: torch.optim.Optimizer = make(groups, **options)
    return twin


def sparse_adam(parameters: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """SparseAdam over the parameters whose gradients are sparse, Adam over the others.

    Examples
    --------
    >>> table = torch.nn.Embedding(4, 2, sparse=True)
    >>> optimizer = sparse_adam(list(table.parameters()))
    >>> table(torch.tensor([1])).sum().backward()
    >>> optimizer.step()
    >>> sorted(optimizer.state[table.weight])
    ['exp_avg', 'exp_avg_sq', 'step']
    """
    return _SparseAndDenseAdam(parameters)


class _SparseAndDenseAdam(torch.optim.Optimizer):
    """Which of the two steps over a parameter is seen from its first gradient."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        super().__init__(list(parameters), {})
        self._parts: list[torch.optim.Optimizer] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        if not self._parts:
            given = [p for p in self.param_groups[0]["params"] if p.grad is not None]
            sparse = [p for p in given if p.grad.layout is torch.sparse_coo]
            dense = [p for p in given if p.grad.layout is not torch.sparse_coo]
            self._parts += [torch.optim.SparseAdam(sparse)] if sparse else []
            self._parts += [torch.optim.Adam(dense)] if dense else []
        for part in self._parts:
            part.step()
            self.state.update(part.state)
