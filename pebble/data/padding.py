"""Samples of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pebble.errors import InvalidArgument

_MASK = "attention_mask"
_PADDING = {"labels": -100, _MASK: 0}
"""What cross entropy leaves out, and what attention does not see."""


def pad_collate(
    samples: Sequence[Mapping[str, Any]],
    *,
    pad_token_id: int = 0,
    pad_to: int = 1,
    padding: Mapping[str, float] | None = None,
) -> dict[str, torch.Tensor]:
    """Samples padded to the longest of them and stacked.

    Parameters
    ----------
    samples : sequence of mappings
        From names to tensors, or to what makes one: the first dimension is the length; numbers
        are stacked as they are. Where there are ``input_ids`` and no ``attention_mask``, one is
        made.
    pad_token_id : int
        Padding of everything but labels (-100) and masks (0).
    pad_to : int
        The length is rounded up to a multiple of this.
    padding : mapping of str to number, optional
        Padding by name.

    Returns
    -------
    dict of str to Tensor
        Each of shape (samples, longest, ...), or (samples,).

    Raises
    ------
    InvalidArgument
        If there are no samples, or they have different names.

    Examples
    --------
    >>> found = pad_collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}])
    >>> found["input_ids"].tolist(), found["attention_mask"].tolist()
    ([[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]])
    """
    if not samples or any(set(sample) != set(samples[0]) for sample in samples):
        raise InvalidArgument(
            "pad_collate takes samples that are mappings with the same names; pass a collate_fn of "
            "your own to the DataLoader for others."
        )
    fill = {**_PADDING, **(padding or {})}
    made: dict[str, torch.Tensor] = {}
    for name in samples[0]:
        parts = [torch.as_tensor(sample[name]) for sample in samples]
        made[name] = _stacked(parts, fill.get(name, pad_token_id), pad_to)
        if name == "input_ids" and _MASK not in samples[0]:
            ones = [torch.ones(len(part), dtype=torch.long) for part in parts]
            made[_MASK] = _stacked(ones, 0, pad_to)
    return made


def _stacked(parts: Sequence[torch.Tensor], fill: float, pad_to: int) -> torch.Tensor:
    if not parts[0].dim():
        return torch.stack(list(parts))
    longest = -(-max(len(part) for part in parts) // pad_to) * pad_to
    shape = (len(parts), longest, *parts[0].shape[1:])
    whole = torch.full(shape, fill, dtype=parts[0].dtype)
    for row, part in zip(whole, parts):
        row[: len(part)] = part
    return whole
