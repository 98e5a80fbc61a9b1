"""The way back from a plan to a model: the step that a model takes, checked against the plan's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pebble.cards import CARDS
from pebble.errors import InvalidArgument, PlanFormatError, PlanMismatch
from pebble.graph import Graph
from pebble.measure.rank_memory import ranks_of
from pebble.measure.step import Step, trace
from pebble.plan.differences import first_difference
from pebble.progress import progress_line
from pebble.record import DEFAULT_LOSS, StepRecord
from pebble.schema import shortened
from pebble.tracing.inputs import Inputs
from pebble.tracing.recorded_inputs import inputs_from_json
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.wrapped import inside

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class Given:
    """What a caller hands to a plan: each None where the plan's own is meant."""

    model: nn.Module | None
    inputs: Any
    loss: Loss | None


def matching_step(graph: Graph, record: StepRecord, known: Step | None, given: Given) -> Step:
    """The step of a model as a plan was made for; traced anew unless it is the known one.

    Parameters
    ----------
    graph : Graph
        The plan's.
    record : StepRecord
        What the plan was made from.
    known : Step or None
        The step that the plan was made for in this process.
    given : Given

    Raises
    ------
    InvalidArgument
        If the plan was made with a loss function that is not at hand, or without one.
    PlanMismatch
        If the model computes another graph, and names the first difference; or if there is none.
    """
    if known is None and given.model is None:
        raise PlanMismatch("This plan was loaded from a file; pass the model to validate it on.")
    loss = planned_loss(record, None if known is None else known.options.loss, given.loss)
    wrapped = ranks_of(given.model)
    if known is not None and given.model is not None:
        mine = inside(given.model) is known.model
        mine = mine and (wrapped is None or wrapped == known.options.ranks)
    else:
        mine = given.model is None
    if known is not None and mine and not known.captured.fake and known.options.loss is loss:
        return known if given.inputs is None else known.with_inputs(given.inputs)
    model, inputs = given.model, given.inputs
    if model is None and known is not None:
        model = known.model
    assert model is not None
    if inputs is None:
        inputs = recorded_inputs(record, model)
    options = record.options(loss=loss, costs=graph.arrays.cost.tolist())
    options = replace(options, card=_card_to_trace_for(record, model))
    with progress_line(None, f"trace {type(model).__name__} for its plan"):
        step = trace(model, inputs, options)
    difference = first_difference(graph, step.graph)
    if difference is not None:
        raise PlanMismatch(_sentence(record, step, difference))
    return step


def _card_to_trace_for(record: StepRecord, model: nn.Module) -> str | None:
    """The plan's card for a model without data, which cannot be run anywhere; else where it is."""
    return record.card if fake_mode_of(*model.parameters()) is not None else None


def _sentence(record: StepRecord, step: Step, difference: str) -> str:
    """Why a step is not the planned one, and what to do."""
    given, where = step.record, torch.device(step.captured.device).type
    if record.card is not None and where != "cuda":
        title = CARDS[record.card].title
        return (
            f"This plan of {record.model} is for the kernels of the {title}, and "
            f"this {given.model} is on the {where}, which takes others: {difference}. Move the "
            "model and its inputs to the card and apply the plan there, or make one without card=."
        )
    made, here = _code_of(record), _code_of(given)
    code = "" if made == here else f" The plan was made under {made}, this is {here}."
    return (
        f"This plan was made for {record.model}, not for this {given.model}: {difference}.{code} "
        "Make a new plan with pebble.optimize."
    )


def _code_of(record: StepRecord) -> str:
    """The releases whose code decides what a model computes."""
    library = record.transformers_version
    named = f"torch {record.torch_version}"
    return named if library is None else f"transformers {library} and {named}"


def recorded_inputs(record: StepRecord, model: nn.Module) -> Inputs:
    """Inputs as the plan's record has them; what is damaged there is the file's fault."""
    try:
        return inputs_from_json(record.inputs, model)
    except PlanFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise PlanFormatError(
            f"The inputs that this plan records cannot be made again "
            f"({type(error).__name__}: {shortened(str(error))}); pass inputs= again."
        ) from None


def planned_loss(record: StepRecord, mine: Loss | None, given: Loss | None) -> Loss | None:
    """The loss function of the step: the one given, or the one that the plan was made with."""
    name = record.loss
    if name == DEFAULT_LOSS:
        if given is not None:
            raise InvalidArgument(
                "This plan was made without loss=, so it differentiates the model's own loss, or "
                "every output where it names none; leave loss= out, or make a plan with it."
            )
        return None
    if given is None and mine is None:
        again = f"loss={name}" if name.isidentifier() else "that function as loss="
        raise InvalidArgument(
            f"This plan was made with the loss function {name!r}, which a file cannot hold; pass "
            f"{again} again."
        )
    return mine if given is None else given
