"""Recipes: ways to train with one effective batch size, ranked, in words and as code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pebble.formatting import Printed, count, gigabytes, table

if TYPE_CHECKING:
    from pebble.plan.plan import Plan

HALVES = {"bf16": "bfloat16", "fp16": "float16"}
SHOWN = 12
"""Rows that the printed table has at most."""


@dataclass(frozen=True)
class Choice:
    """What a recipe decides.

    Attributes
    ----------
    micro_batch : int
        Samples in one forward and backward, on each device.
    precision : str
        "fp32", "bf16", "fp16", or one of the two halves with "-mixed": fp32 weights, autocast.
    optimizer : str or None
    quantize : str or None
        Storage format of the frozen linear weights.
    chunks : int
        Parts of head and loss; 0: in one piece.
    """

    micro_batch: int
    precision: str
    optimizer: str | None
    quantize: str | None = None
    chunks: int = 0

    def __str__(self) -> str:
        weights = "" if self.quantize is None else f", weights in {self.quantize}"
        loss = f", loss in {self.chunks} chunks" if self.chunks else ""
        return (
            f"micro-batch {self.micro_batch}, {self.precision}{weights}, "
            f"{self.optimizer or 'no optimizer'}{loss}"
        )


@dataclass(frozen=True)
class Recipe:
    """One way to train, with what it needs and takes.

    Attributes
    ----------
    choice : Choice
    accumulation_steps : int
        Micro-batches before each optimizer step.
    devices : int
    budget_bytes, peak_bytes, unplanned_peak_bytes : int
        Of the whole step on one device. For a recipe that does not fit, `peak_bytes` is the least
        peak known.
    overhead : float
        Extra compute of the plan, as a fraction.
    seconds : float
        Predicted, for one effective batch, the optimizer's step included.
    exact : bool
        Planned on a trace at this very micro-batch; else on one rescaled to it.
    plan : Plan or None
    """

    choice: Choice
    accumulation_steps: int
    devices: int
    budget_bytes: int
    peak_bytes: int
    unplanned_peak_bytes: int
    overhead: float
    seconds: float
    exact: bool = False
    plan: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def effective_batch_size(self) -> int:
        """Micro-batch x accumulation steps x devices."""
        return self.choice.micro_batch * self.accumulation_steps * self.devices

    @property
    def seconds_per_sample(self) -> float:
        """Predicted, over all devices."""
        return self.seconds / self.effective_batch_size

    @property
    def margin_bytes(self) -> int:
        """Budget less peak; negative if it does not fit."""
        return self.budget_bytes - self.peak_bytes

    @property
    def fits(self) -> bool:
        """Whether the peak is within the budget."""
        return self.margin_bytes >= 0

    def code(self, model: str = "model = ...", inputs: str = "inputs = ...") -> str:
        """Python that trains by this recipe.

        Parameters
        ----------
        model, inputs : str
            Lines that make them; the inputs are one micro-batch.
        """
        choice, every = self.choice, self.accumulation_steps
        packed = f", frozen linear weights in {choice.quantize}" if choice.quantize else ""
        planned = (
            f"plan = pebble.optimize(model, inputs, budget_bytes={self.budget_bytes}, "
            f"optimizer={choice.optimizer!r}, chunked_loss={choice.chunks or False}"
            + (f", accumulation_steps={every})" if every > 1 else ")")
        )
        stepping = ["optimizer.step()", "optimizer.zero_grad(set_to_none=True)"]
        if every > 1:
            stepping = [f"if k % {every} == 0:", *(f"    {line}" for line in stepping)]
        loop = [
            *self._cast("loss = model(**batch).loss"),
            f"(loss / {every}).backward()" if every > 1 else "loss.backward()",
            *stepping,
        ]
        lines = [
            "import pebble, torch",
            f"{model}  # {choice.precision}{packed}",
            f"{inputs}  # {count(choice.micro_batch, 'sample')}",
            *self._cast(planned),
            "model = plan.apply(model)",
            f"optimizer = ...  # {choice.optimizer}, over the parameters that require gradients",
            "for k, batch in enumerate(loader, start=1):",
            *(f"    {line}" for line in loop),
        ]
        return "\n".join(lines)

    def _cast(self, line: str) -> list[str]:
        """A line of code, under autocast where the precision is a mixed one."""
        half, _, mixed = self.choice.precision.partition("-")
        if not mixed:
            return [line]
        return [f'with torch.autocast("cuda", dtype=torch.{HALVES[half]}):', f"    {line}"]


@dataclass(frozen=True)
class Knob:
    """One change by itself, and what it buys.

    Attributes
    ----------
    name : str
    saved_bytes : int
        Off the peak of the step without a plan.
    extra_time : float
        Of an effective batch, as a fraction; negative if it is faster.
    """

    name: str
    saved_bytes: int
    extra_time: float


@dataclass(frozen=True, repr=False)
class Recommendation(Printed):
    """Recipes for one effective batch size, the fastest that fits first.

    Attributes
    ----------
    model : str
    recipes : tuple of Recipe
        Those that fit, fastest first; then those that do not.
    knobs : tuple of Knob
        For the best recipe without its plan, cheapest first.
    clock : str
        What the predicted seconds are the seconds of.
    plain_bytes, least_bytes : int
        Of the smallest micro-batch: the peak without a plan, and the least peak known.
    plain_memory : mapping of str to int
        Bytes by kind at the former.
    notes : tuple of str
    runtime : float
        Seconds that this took.
    """

    model: str
    recipes: tuple[Recipe, ...]
    knobs: tuple[Knob, ...]
    clock: str
    plain_bytes: int
    least_bytes: int
    plain_memory: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    runtime: float = 0.0

    @property
    def best(self) -> Recipe:
        """The fastest recipe that fits."""
        return self.recipes[0]

    @property
    def plan(self) -> Plan:
        """The best recipe's plan."""
        assert self.best.plan is not None
        return self.best.plan

    @property
    def memory(self) -> Mapping[str, int]:
        """Bytes by kind at the peak of the best recipe, largest first."""
        kinds = sorted(self.plan.memory.items(), key=lambda item: -item[1])
        return {kind: size for kind, size in kinds if size}

    def __str__(self) -> str:
        best = self.best
        head = (
            f"{self.model} within {gigabytes(best.budget_bytes)}, effective batch "
            f"{best.effective_batch_size}: {best.choice} x {best.accumulation_steps} accumulation "
            "steps"
            f"{f' x {best.devices} devices' if best.devices > 1 else ''}, "
            f"{best.seconds:.3g} s for each effective batch ({self.clock})."
        )
        parts = [head, recipe_table(self.recipes), self.explanation()]
        return "\n\n".join([*parts, *self.notes])

    def explanation(self) -> str:
        """What dominates the peak, and what each knob buys at what cost."""
        total = max(sum(self.memory.values()), 1)
        listed = ", ".join(
            f"{kind} {gigabytes(size)} ({size / total:.0%})" for kind, size in self.memory.items()
        )
        rows = [
            [knob.name, gigabytes(knob.saved_bytes), f"{100 * knob.extra_time:+.1f} %"]
            for knob in self.knobs
        ]
        text = f"At the peak of the first: {listed}."
        if rows:
            text += (
                "\n\nWhat one change by itself takes off the peak without a plan, cheapest first:"
                f"\n\n{table(['knob', 'buys', 'time'], rows)}"
            )
        return text


def recipe_table(recipes: tuple[Recipe, ...]) -> str:
    """Recipes as a table."""
    header = [
        "", "micro-batch", "accumulation", "precision", "weights", "optimizer", "loss chunks",
        "no plan", "peak", "margin", "extra compute", "s / batch", "s / sample",
    ]  # fmt: skip
    rows = []
    for rank, recipe in enumerate(recipes[:SHOWN], start=1):
        choice = recipe.choice
        time = [f"{recipe.seconds:.3g}", f"{recipe.seconds_per_sample:.3g}"]
        rows.append(
            [
                str(rank) if recipe.fits else "too large",
                str(choice.micro_batch),
                str(recipe.accumulation_steps),
                choice.precision,
                choice.quantize or "as they are",
                choice.optimizer or "none",
                str(choice.chunks or "-"),
                gigabytes(recipe.unplanned_peak_bytes),
                gigabytes(recipe.peak_bytes),
                gigabytes(recipe.margin_bytes),
                f"{100 * recipe.overhead:.1f} %" if recipe.fits else "-",
                *(time if recipe.fits else ["-", "-"]),
            ]
        )
    return table(header, rows)
