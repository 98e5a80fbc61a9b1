"""A training step that has no graph: a model, its inputs and its loss, to be run as they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.measure.blocks import parameters_fingerprint
from pebble.options import StepOptions
from pebble.plan.matching import Given, planned_loss, recorded_inputs
from pebble.record import StepRecord
from pebble.runtime.module_bench import ModuleBench
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.recorded_inputs import inputs_to_json
from pebble.tracing.wrapped import inside


@dataclass(frozen=True)
class ModuleStep:
    """One training step of a model, run as it is.

    Attributes
    ----------
    model : nn.Module
    inputs : Inputs
    options : StepOptions
    """

    model: nn.Module = field(repr=False)
    inputs: Inputs = field(repr=False)
    options: StepOptions = field(repr=False)

    @property
    def record(self) -> StepRecord:
        """What a plan for it was made from."""
        tensors = (*self.model.parameters(), *self.inputs.tensors())
        made = StepRecord(
            model=type(self.model).__name__,
            device=next((str(t.device) for t in tensors), "cpu"),
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            inputs=inputs_to_json(self.inputs),
        )
        return made.made_with(self.options)

    def bench(self, seed: int) -> ModuleBench:
        """Where it is run."""
        options = self.options
        return ModuleBench(
            self.model, self.inputs, options.loss, accumulates=options.accumulates, seed=seed
        )


def matching_module_step(
    record: StepRecord, fingerprint: str, known: ModuleStep | None, given: Given
) -> ModuleStep:
    """The step of a model as a module-level plan was made for.

    Raises
    ------
    InvalidArgument
        If the plan was made with a loss function that is not at hand, or without one.
    PlanMismatch
        If the model has other parameters, or there is none.
    """
    model = inside(given.model)
    if model is None and known is not None:
        model = known.model
    if model is None:
        raise PlanMismatch("This plan was loaded from a file; pass the model to validate it on.")
    loss = planned_loss(record, None if known is None else known.options.loss, given.loss)
    if parameters_fingerprint(model) != fingerprint:
        raise PlanMismatch(
            f"This plan was made for {record.model} with other parameters than this "
            f"{type(model).__name__} has. Make a new plan with pebble.optimize."
        )
    if given.inputs is not None:
        inputs = make_inputs(model, given.inputs)
    else:
        inputs = known.inputs if known is not None else recorded_inputs(record, model)
    options = record.options(loss=loss, costs="auto")
    return ModuleStep(model, inputs, replace(options, loss=loss))
