"""What a call may ask for: one record of options with one set of checks and defaults.

Python, the command line and the back end of torch.compile read these; a default that stands here
stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from pebble.arguments import check_time_limit, one_of, positive_integer
from pebble.cards import CARDS, card_name
from pebble.errors import InvalidArgument
from pebble.ranks import Ranks
from pebble.solver import Solver, get_solver

ChunkedLoss = Literal["auto", False] | int
Differentiate = Literal["loss", "all"] | Sequence[str] | None
OUTPUTS = ("all", "loss")
ALLOCATED, RESERVED = "allocated", "reserved"
BUDGET_KINDS = (ALLOCATED, RESERVED)
METHODS = ("full", "lora", "qlora")
LORA_RANK = 16
TIME_LIMIT = 60.0
"""Seconds of a whole call."""


@dataclass(frozen=True)
class StepOptions:
    """What a training step is, besides its model and inputs.

    Attributes
    ----------
    optimizer : str, torch.optim.Optimizer or None
    loss : callable or None
        From the model's outputs to the scalar loss.
    costs : str, or sequence of int
        Where the time of an op comes from; or nanoseconds, one an op.
    outputs : "all" or "loss"
        What the step hands over.
    chunks : int
        Into how many chunks of tokens the head and the loss are split; 0: not at all.
    accumulation_steps : int
        Micro-batches whose gradients are added up before the optimizer steps.
    calls_in_flight : int
        Calls of the model before the first backward.
    ranks : Ranks, optional
        How the ranks of a distributed run share the work. Default: as torch.distributed is set up.
    batch_size, seq_len : int, optional
        Of inputs that are inferred.
    differentiate : "loss", "all" or sequence of str, optional
        The outputs that are differentiated: what the loss reads, every one, or the loss and those
        of these names. Default: the loss, where there is one, else every one.
    card : str, optional
        Of `pebble.cards.CARDS`: the step as it runs there, wherever the model is.
    room_bytes : int, optional
        What may be held while its bytes are measured, what is resident counted. Default: what the
        machine has.

    Raises
    ------
    InvalidArgument
    """

    optimizer: Any = "adamw"
    loss: Callable[[Any], Any] | None = field(default=None, repr=False)
    costs: str | Sequence[int] = field(default="auto", repr=False)
    outputs: str = "all"
    chunks: int = 0
    accumulation_steps: int = 1
    batch_size: int | None = None
    seq_len: int | None = None
    differentiate: Differentiate = None
    calls_in_flight: int = 1
    ranks: Ranks | None = None
    card: str | None = None
    room_bytes: int | None = None

    @classmethod
    def of(cls, **given: Any) -> Self:
        """From keywords of a call.

        Raises
        ------
        InvalidArgument
            If one of them is no option; lists those that are.
        """
        known = [f.name for f in fields(cls)]
        wrong = [name for name in given if name not in known]
        if wrong:
            raise InvalidArgument(
                f"A step has no option {wrong[0]!r}; choose from {', '.join(known)}."
            )
        return cls(**given)

    def __post_init__(self) -> None:
        one_of("outputs", self.outputs, OUTPUTS)
        if self.card is not None:
            object.__setattr__(self, "card", card_name(self.card))
            if self.costs == "auto":
                object.__setattr__(self, "costs", f"roofline:{CARDS[self.card].device}")
        object.__setattr__(self, "differentiate", checked_outputs(self.differentiate))
        positive_integer("accumulation_steps", self.accumulation_steps)
        positive_integer("calls_in_flight", self.calls_in_flight)
        if not isinstance(self.costs, (str, Sequence)):
            raise InvalidArgument(
                f"costs is {self.costs!r}; pass 'auto', 'flops', 'profile' or 'roofline:<device>'."
            )
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) is not None:
                positive_integer(name, getattr(self, name))

    @property
    def accumulates(self) -> bool:
        """Whether gradients are added to those of earlier micro-batches or calls."""
        return self.accumulation_steps > 1 or self.calls_in_flight > 1

    @property
    def optimizer_name(self) -> str | None:
        """The optimizer in a word."""
        known = self.optimizer
        return known if known is None or isinstance(known, str) else type(known).__name__

    @property
    def loss_name(self) -> str | None:
        """What the loss function is called; None without one."""
        if self.loss is None:
            return None
        return str(getattr(self.loss, "__qualname__", type(self.loss).__name__))


def checked_outputs(differentiate: Any) -> Differentiate:
    """What `differentiate` says, names in a tuple.

    Raises
    ------
    InvalidArgument

    Examples
    --------
    >>> checked_outputs(["logits"]), checked_outputs("all")
    (('logits',), 'all')
    """
    if differentiate is None or differentiate in ("loss", "all"):
        known: Differentiate = differentiate
        return known
    names = () if isinstance(differentiate, str) else differentiate
    if not isinstance(names, Sequence) or not names or not all(isinstance(n, str) for n in names):
        raise InvalidArgument(
            f"differentiate is {differentiate!r}; pass 'loss', 'all', or a list of names of "
            "outputs, such as ['logits']."
        )
    return tuple(names)


@dataclass(frozen=True)
class SearchOptions:
    """How a plan is looked for.

    Attributes
    ----------
    solver : str or callable
    time_limit : float
        Seconds for the whole call.
    seed : int
    display : bool or None
        Whether progress is shown; None: where somebody watches.
    chunked_loss : "auto", int or False
        Head and loss in chunks of tokens: where no plan fits otherwise, in so many, or never.
    solver_options : mapping
        Of the solver itself.
    budget_kind : "allocated", "reserved" or None
        What is held within the budget: bytes of tensors, or what a card reserves for them; None:
        the latter on a card.

    Raises
    ------
    InvalidArgument, UnknownSolver
    """

    solver: str | Solver = "auto"
    time_limit: float = TIME_LIMIT
    seed: int = 0
    display: bool | None = None
    chunked_loss: ChunkedLoss = "auto"
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    budget_kind: str | None = None

    def __post_init__(self) -> None:
        get_solver(self.solver)
        check_time_limit(self.time_limit)
        check_chunked_loss(self.chunked_loss)
        if self.budget_kind is not None:
            one_of("budget_kind", self.budget_kind, BUDGET_KINDS)
        one_of("display", self.display, (None, True, False))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InvalidArgument(f"seed is {self.seed!r}; it must be an integer.")

    @classmethod
    def of(cls, **given: Any) -> Self:
        """From keywords of a call: what is no option here is one of the solver."""
        own = {f.name for f in fields(cls)} - {"solver_options"}
        mine = {name: value for name, value in given.items() if name in own}
        rest = {name: value for name, value in given.items() if name not in own}
        return cls(**mine, solver_options=rest)


def check_chunked_loss(chunked_loss: Any) -> None:
    """Raise `InvalidArgument` unless it is "auto", False or a number of chunks from 2 on."""
    number = isinstance(chunked_loss, int) and not isinstance(chunked_loss, bool)
    if chunked_loss is not False and chunked_loss != "auto" and not (number and chunked_loss > 1):
        raise InvalidArgument(
            f"chunked_loss is {chunked_loss!r}; pass 'auto', False, or a number of chunks from 2 "
            "on."
        )
