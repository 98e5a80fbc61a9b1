"""What each knob buys: memory off the step, and what it costs in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pebble.errors import InvalidArgument
from pebble.finetune.recipes import Choice, Knob, Recipe
from pebble.formatting import gigabytes
from pebble.measure.step import Step
from pebble.referee import simulate
from pebble.schedule import Schedule

if TYPE_CHECKING:
    from pebble.finetune.recipe_search import RecipeSearch
    from pebble.finetune.step_families import Families

LEAN_OPTIMIZERS = ("adamw8bit", "paged_adamw8bit", "adafactor", "sgd")
"""From the one that changes training least to the one that changes it most."""
LEAN_FORMATS = ("int8", "4bit", "4bit-double")


def alternatives(families: Families, choice: Choice) -> Iterator[tuple[str, Choice]]:
    """One change at a time, those first that change training least."""
    for chunks in families.chunk_counts(choice.precision):
        if chunks and chunks != choice.chunks:
            yield f"loss in {chunks} chunks", replace(choice, chunks=chunks)
    for name in LEAN_OPTIMIZERS:
        if choice.optimizer not in (None, name):
            yield f"optimizer {name}", replace(choice, optimizer=name)
    for form in LEAN_FORMATS:
        if choice.quantize != form:
            yield f"frozen weights in {form}", replace(choice, quantize=form)


def knobs_of(
    families: Families,
    choice: Choice,
    recipe: Recipe,
    search: RecipeSearch,
    leanest: Schedule | None,
) -> tuple[Knob, ...]:
    """What one change by itself takes off the peak of a choice without a plan; cheapest first.

    Parameters
    ----------
    leanest : Schedule, optional
        Of the choice's own step: the most that recomputation can do.
    """
    plain = replace(choice, chunks=0)
    step = search.step(plain)
    peak, seconds = step.footprint.unplanned_peak, _seconds(search, plain, step)
    knobs = []

    def add(name: str, there: int, time: float) -> None:
        if there < peak:
            knobs.append(Knob(name, peak - there, time / seconds - 1))

    if recipe.plan is not None and recipe.overhead > 0:
        add("this plan", recipe.peak_bytes, recipe.seconds)
    if leanest is not None:
        trace = simulate(step.graph, leanest)
        add(
            "recomputing for the least peak",
            step.resident.whole_step_peak(trace.peak),
            search.seconds(plain, step, trace.cost),
        )
    smaller = [m for m in search.micro_batches if m < choice.micro_batch]
    changes = [*alternatives(families, plain)]
    if smaller:
        changes.append((f"micro-batch {smaller[-1]}", replace(plain, micro_batch=smaller[-1])))
    for name, other in changes:
        changed = _step(search, other)
        if changed is not None:
            add(name, changed.footprint.unplanned_peak, _seconds(search, other, changed))
    return tuple(sorted(knobs, key=lambda knob: (round(knob.extra_time, 3), -knob.saved_bytes)))


def _seconds(search: RecipeSearch, choice: Choice, step: Step) -> float:
    return search.seconds(choice, step, step.graph.total_cost)


def _step(search: RecipeSearch, choice: Choice) -> Step | None:
    try:
        return search.step(choice)
    except InvalidArgument:  # nothing to quantise
        return None


def least_change(families: Families, search: RecipeSearch, choice: Choice, least: int) -> str:
    """The least change by which a choice that does not fit would, in a sentence."""
    budget = search.budget
    for name, other in alternatives(families, choice):
        if _step(search, other) is None:
            continue
        peak = search.least_peak(other)
        if peak <= budget:
            return f"The least change that would fit: {name}, which needs {gigabytes(peak)}."
    return (
        "No single change of the loss, the optimizer or the storage of frozen weights is enough; "
        f"what would fit is a budget of {gigabytes(least)}, a shorter sequence, or fewer trained "
        "parameters (LoRA)."
    )
