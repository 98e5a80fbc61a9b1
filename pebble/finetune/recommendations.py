"""`recommend`: the fastest way to train with an effective batch size within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from pebble.arguments import check_time_limit, positive_integer
from pebble.budget import whole_budget
from pebble.cards import card_name
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.finetune.recipe_search import RecipeSearch, Trial, rank
from pebble.finetune.recipes import HALVES, Recommendation
from pebble.finetune.step_families import Families
from pebble.finetune.tradeoffs import knobs_of, least_change
from pebble.formatting import gigabytes
from pebble.measure.dtypes import DTYPES
from pebble.measure.optimizers import OPTIMIZERS
from pebble.measure.weights import FORMATS
from pebble.options import TIME_LIMIT
from pebble.progress import watched
from pebble.referee import simulate
from pebble.schedule import Schedule

PRECISIONS = (*DTYPES, *(f"{half}-mixed" for half in HALVES))


def _told(advice: Recommendation) -> str:
    best = advice.best
    return f"{best.choice} x {best.accumulation_steps}, {best.seconds:.3g} s for an effective batch"


@watched(_told)
def recommend(
    make_model: Callable[..., nn.Module],
    make_inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    effective_batch_size: int = 32,
    devices: int = 1,
    precisions: Sequence[str] | None = None,
    optimizers: Sequence[str | None] = ("adamw",),
    quantize: Sequence[str | None] = (None,),
    chunked_loss: str | int | bool = "auto",
    loss: Callable[[Any], torch.Tensor] | None = None,
    costs: str = "auto",
    seq_len: int | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    card: str | None = None,
    display: bool | None = None,
) -> Recommendation:
    """Rank the ways to train with an effective batch size within a budget; fastest first.

    Every divisor of the effective batch is tried as micro-batch, with every precision, optimizer
    and storage format given. The table is planned on one trace rescaled to each micro-batch; the
    best recipe is planned again on a trace of its own.

    Parameters
    ----------
    make_model : callable
        Makes the model, best on fake tensors (`pebble.shapes.build_shape`). If it has a parameter
        ``precision``, it is called with "fp32", "bf16" or "fp16".
    make_inputs : callable, tensor, tuple, mapping or None
        As for `pebble.max_batch_size`.
    budget_gb, budget_bytes : float, int
        Of one device, for the whole step.
    effective_batch_size : int
        Micro-batch x accumulation steps x devices.
    devices : int
        With data parallelism (``gradient_as_bucket_view=True``); communication is not timed.
    precisions : sequence of str, optional
        Of "fp32", "bf16", "fp16", "bf16-mixed", "fp16-mixed" (fp32 weights under autocast).
        Default: that of the model, or "bf16".
    optimizers : sequence of str or None
    quantize : sequence of "int8", "4bit", "4bit-double" or None
        Storage of frozen linear weights: their bytes and unpacking are priced in, on the graph of
        the model as it is.
    chunked_loss : "auto", int or False
        Head and loss in chunks of tokens: where that helps, in so many, or never.
    loss, seq_len, seed, card
        As in `pebble.optimize`.
    costs : str
        As in `pebble.optimize`; "auto" on fake tensors is the roofline of the smallest card that
        has the budget.
    time_limit : float
        Seconds for the whole call; a plan for the best recipe follows in any case.
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.

    Returns
    -------
    Recommendation

    Raises
    ------
    InfeasibleBudget
        If no recipe fits; names the least change that would.
    InvalidArgument, InputsRequired, CaptureError

    Examples
    --------
    >>> import torch, pebble
    >>> def net():
    ...     return torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(8)])
    >>> advice = pebble.recommend(
    ...     net, torch.ones(1, 64), budget_gb=0.002, effective_batch_size=8, time_limit=5
    ... )
    >>> advice.best.effective_batch_size, advice.best.fits
    (8, True)
    """
    began = time.perf_counter()
    deadline = Deadline(check_time_limit(time_limit))
    budget = whole_budget(budget_gb, budget_bytes)
    card = None if card is None else card_name(card)
    _check(effective_batch_size, devices, optimizers, quantize, precisions)
    families = Families(make_model, make_inputs, budget, costs, loss, seq_len, chunked_loss, card)
    search = RecipeSearch(families, budget, effective_batch_size, devices, deadline, seed)
    choices = families.choices(search.micro_batches, precisions, list(optimizers), list(quantize))
    trials = [search.look(choice) for choice in choices]
    search.refine(trials)
    fitting = [t for t in trials if t.schedule is not None]
    if not fitting:
        raise _nothing_fits(families, search, trials)
    best, notes = search.settle(fitting)
    rest = sorted((t for t in trials if t is not best), key=rank)
    recipe = search.recipe(best)
    return Recommendation(
        model=type(families.of(best.choice).model).__name__,
        recipes=(recipe, *(search.recipe(t) for t in rest)),
        knobs=knobs_of(families, best.choice, recipe, search, search.known_leanest(best)),
        clock=families.clock,
        plain_bytes=min(t.unplanned for t in trials),
        plain_memory=_plain_memory(min(trials, key=lambda t: t.unplanned)),
        least_bytes=search.least(trials)[1],
        notes=(*notes, *_remarks(best)),
        runtime=time.perf_counter() - began,
    )


def _check(
    effective: int,
    devices: int,
    optimizers: Sequence[str | None],
    formats: Sequence[str | None],
    precisions: Sequence[str] | None,
) -> None:
    for name, number in (("effective_batch_size", effective), ("devices", devices)):
        positive_integer(name, number)
    if effective % devices:
        raise InvalidArgument(
            f"An effective batch of {effective} cannot be shared by {devices} devices; choose a "
            "multiple of their number."
        )
    known: dict[str, tuple[Sequence[Any], Iterable[Any]]] = {
        "optimizers": (optimizers, (None, *OPTIMIZERS)),
        "quantize": (formats, (None, *FORMATS)),
        "precisions": (precisions or (), PRECISIONS),
    }
    for name, (given, choices) in known.items():
        wrong = [item for item in given if item not in choices]
        if isinstance(given, str) or wrong:
            raise InvalidArgument(
                f"{name}={given!r} must be a sequence of {', '.join(map(str, choices))}."
            )


def _plain_memory(trial: Trial) -> dict[str, int]:
    """What the peak of a choice without a plan consists of."""
    step = trial.step.one_piece
    return step.footprint.kinds_at_peak(simulate(step.graph, Schedule.keep_all(step.graph)))


def _remarks(best: Trial) -> list[str]:
    """What a recipe's figures do not say by themselves."""
    found = []
    if not best.exact:
        found.append(
            "Planned on a trace rescaled to this micro-batch, for want of time: ops whose code "
            "depends on the batch may differ. With a longer time_limit it is traced again."
        )
    choice = best.choice
    if choice.quantize is None:
        return found
    return [
        *found,
        f"Weights in {choice.quantize}: the plan is for the graph of the model as it is; the "
        "packed weights, and the time and room to unpack them, are priced in, not run.",
    ]


def _nothing_fits(
    families: Families, search: RecipeSearch, trials: list[Trial]
) -> InfeasibleBudget:
    choice, least = search.least(trials)
    text = (
        f"No recipe fits {gigabytes(search.budget)}: the leanest ({choice}) needs "
        f"{gigabytes(least)}. {least_change(families, search, choice, least)}"
    )
    return InfeasibleBudget(text, budget_bytes=search.budget, least_bytes=least)
