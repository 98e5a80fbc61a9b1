"""The largest batch that a budget holds, with and without a plan, found by planning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pebble.arguments import check_time_limit
from pebble.budget import whole_budget
from pebble.deadline import Deadline
from pebble.errors import InvalidArgument
from pebble.finetune.batch_search import BatchSearch
from pebble.finetune.batch_sizes import BatchSizes
from pebble.formatting import count, gigabytes
from pebble.options import TIME_LIMIT, ChunkedLoss, Differentiate, SearchOptions
from pebble.progress import watched

if TYPE_CHECKING:
    import torch
    from torch import nn


def _told(sizes: BatchSizes) -> str:
    budget = gigabytes(sizes.budget_bytes)
    planned = count(sizes.planned, "sample")
    return f"{planned} within {budget}, {sizes.unplanned} without a plan"


@watched(_told)
def max_batch_size(
    model: nn.Module,
    inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    max_overhead: float | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    outputs: Literal["all", "loss"] = "all",
    chunked_loss: ChunkedLoss = "auto",
    loss: Callable[[Any], torch.Tensor] | None = None,
    costs: str = "auto",
    seq_len: int | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    differentiate: Differentiate = None,
    display: bool | None = None,
) -> BatchSizes:
    """The largest micro-batch whose training step fits a budget; nothing is run to find it.

    Parameters
    ----------
    model : nn.Module
        Real or fake tensors.
    inputs : callable, tensor, tuple, mapping or None
        A function of the batch size that makes inputs; or example inputs, whose tensors are
        repeated along their first dimension; or None where inputs can be inferred.
    budget_gb, budget_bytes : float, int
        For the whole step, as in `pebble.optimize`.
    max_overhead : float, optional
        The most extra compute that the plan may take, as a fraction; default: any.
    chunked_loss : "auto", int or False
        Head and loss in chunks of tokens: where that holds a larger batch, in so many, or never.
    optimizer, outputs, loss, costs, seed, differentiate
        As in `pebble.optimize`.
    seq_len : int, optional
        For inferred inputs of Hugging Face models.
    time_limit : float
        Seconds for the whole call: each solve gets a share of what is left, and at least a quick
        look.
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.

    Returns
    -------
    BatchSizes

    Raises
    ------
    InfeasibleBudget
        If no plan holds a single sample.
    InvalidArgument, InputsRequired, CaptureError

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(3)])
    >>> sizes = pebble.max_batch_size(net, torch.ones(1, 64), budget_gb=0.0004, time_limit=1)
    >>> sizes.planned > sizes.unplanned > 0
    True
    """
    deadline = Deadline(check_time_limit(time_limit))
    from pebble.finetune.steps_by_batch import Batches

    search = SearchOptions("auto", time_limit, seed, chunked_loss=chunked_loss)
    budget = whole_budget(budget_gb, budget_bytes)
    if max_overhead is not None and not max_overhead >= 0:
        raise InvalidArgument(f"max_overhead is {max_overhead!r}; it must not be negative.")
    batches = Batches(
        model,
        inputs,
        seq_len=seq_len,
        loss=loss,
        optimizer=optimizer,
        costs=costs,
        outputs=outputs,
        differentiate=differentiate,
    )
    return BatchSearch(batches, budget, search, deadline).run(max_overhead)
