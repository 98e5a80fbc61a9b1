"""Arithmetic of weights: bytes of a parameter count in a format, with gradients and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pebble.errors import InvalidArgument

_BLOCK, _SUPERBLOCK = 64, 256  # QLoRA: weights a scale, scales a second-level scale


def _plain(width: int) -> Callable[[int, int], int]:
    return lambda rows, columns: width * rows * columns


def _int8(rows: int, columns: int) -> int:
    """One byte a weight and an fp32 scale a row (Dettmers et al. 2022, LLM.int8)."""
    return rows * columns + 4 * rows


def _four_bit(rows: int, columns: int) -> int:
    """Half a byte a weight and an fp32 scale for 64 of them: 4.5 bits."""
    numel = rows * columns
    return -(-numel // 2) + 4 * -(-numel // _BLOCK)


def _four_bit_double(rows: int, columns: int) -> int:
    """The scales themselves in 8 bits, with an fp32 scale for 256 of them: 4.127 bits."""
    numel = rows * columns
    scales = -(-numel // _BLOCK)
    return -(-numel // 2) + scales + 4 * -(-scales // _SUPERBLOCK)


FORMATS: Mapping[str, Callable[[int, int], int]] = {
    "fp32": _plain(4),
    "bf16": _plain(2),
    "fp16": _plain(2),
    "int8": _int8,
    "4bit": _four_bit,
    "4bit-double": _four_bit_double,
}
# Bytes a trainable parameter, for a state of `width` bytes an element.
STATES: Mapping[str, Callable[[int], float]] = {
    "sgd": lambda width: 0.0,
    "momentum": float,
    "adam": lambda width: 2.0 * width,
    "adamw": lambda width: 2.0 * width,
    "sparse_adam": lambda width: 2.0 * width,
    "lion": float,
    "adafactor": lambda width: 0.0,  # a row and a column of each matrix
    "adamw8bit": lambda width: 2 + 8 / 256,
    "paged_adamw8bit": lambda width: 0.0,  # in the host's memory
}


def stored_bytes(form: str, rows: int, columns: int) -> int:
    """Bytes of a matrix of weights in a storage format.

    Raises
    ------
    InvalidArgument
        If the format is unknown; lists the choices.

    Examples
    --------
    >>> from pebble.measure.weights import stored_bytes
    >>> stored_bytes("bf16", 4096, 4096), stored_bytes("4bit", 4096, 4096)
    (33554432, 9437184)
    """
    if form not in FORMATS:
        raise InvalidArgument(
            f"Weight format {form!r} is not known; choose one of {', '.join(FORMATS)}."
        )
    return FORMATS[form](rows, columns)


def dequantised_bytes(numel: int, width: int) -> int:
    """Bytes of a quantised weight while its layer computes: it is unpacked whole."""
    return numel * width


@dataclass(frozen=True)
class Arithmetic:
    """Bytes that follow from a number of parameters alone.

    Attributes
    ----------
    weights, gradients, master_weights, state : int
    layer_inputs : int
        What is kept when every layer's input is saved and the rest recomputed.
    """

    weights: int
    gradients: int
    master_weights: int
    state: int
    layer_inputs: int = 0

    @property
    def total(self) -> int:
        """Sum of the terms."""
        terms = (self.weights, self.gradients, self.master_weights, self.state)
        return sum(terms) + self.layer_inputs


def weight_arithmetic(
    parameters: int,
    *,
    weights: str = "bf16",
    trainable: int | None = None,
    optimizer: str | None = "adam",
    state_width: int | None = None,
    gradient_width: int | None = None,
    master_weights: bool = False,
    layers: int = 0,
    tokens: int = 0,
    width: int = 0,
) -> Arithmetic:
    """The first line of every memory budget: weights, gradients and optimizer state.

    Parameters
    ----------
    parameters : int
    weights : "fp32", "bf16", "fp16", "int8", "4bit" or "4bit-double"
    trainable : int, optional
        How many parameters are trained; default all, which quantised weights cannot be.
    optimizer : str or None
    state_width : int, optional
        Bytes an element of the optimizer's state; default 4 with master weights, else that of
        the trained weights (2 for adapters of quantised ones).
    gradient_width : int, optional
        Bytes an element of the gradients; default that of the trained weights.
    master_weights : bool
        An fp32 copy of the trainable parameters in the optimizer.
    layers, tokens, width : int
        For the inputs of all layers: how many, of how many tokens and features.

    Raises
    ------
    InvalidArgument

    Examples
    --------
    Mixed precision with fp32 Adam state of a model of 7 billion parameters:

    >>> from pebble.measure.weights import weight_arithmetic
    >>> need = weight_arithmetic(7 * 10**9, weights="bf16", optimizer="adam", state_width=4)
    >>> need.weights / 1e9, need.gradients / 1e9, need.state / 1e9
    (14.0, 14.0, 56.0)
    """
    if parameters < 0:
        raise InvalidArgument(f"parameters is {parameters}; it must not be negative.")
    total = stored_bytes(weights, 1, parameters)
    quantised = weights in ("int8", "4bit", "4bit-double")
    if quantised and trainable is None:
        raise InvalidArgument(
            f"Weights in {weights} are not trained themselves; pass trainable=, the number of "
            "parameters of the adapters."
        )
    trained = parameters if trainable is None else trainable
    element = 2 if quantised else stored_bytes(weights, 1, 1)
    if optimizer is not None and optimizer not in STATES:
        raise InvalidArgument(
            f"Optimizer {optimizer!r} is not known; choose one of {', '.join(STATES)}, or None."
        )
    own = 4 if master_weights else element
    state = 0.0 if optimizer is None else STATES[optimizer](state_width or own)
    return Arithmetic(
        weights=total + (element * trained if quantised else 0),
        gradients=(gradient_width or element) * trained,
        master_weights=4 * trained if master_weights else 0,
        state=round(state * trained),
        layer_inputs=layers * tokens * width * element,
    )
