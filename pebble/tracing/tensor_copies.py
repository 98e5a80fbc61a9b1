"""Deep copies of models and calls, with other tensors in the place of theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class TensorCopies(TorchFunctionMode):
    """Within it a deep copy of a tensor is what a function makes of it, once for each tensor.

    Deep copies of tensors and what they were made from would be held twice.

    Parameters
    ----------
    make : callable
        From a tensor to what stands for it.

    Attributes
    ----------
    made : dict of int to Tensor
        By the `id` of a tensor, what stands for it; parameters, which are told, are not in it.
    """

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.make = make
        self.made: dict[int, torch.Tensor] = {}

    def copied(self, thing: Any, parameters: Iterable[torch.Tensor], memo: dict[int, Any]) -> Any:
        """A deep copy of a thing that holds tensors.

        Parameters
        ----------
        parameters : iterable of Tensor
            All inside: a parameter copies itself past this mode.
        memo : dict of int to object
            By `id`, what each object has become; filled.
        """
        for tensor in parameters:
            memo[id(tensor)] = self.make(tensor)
        with self:
            return copy.deepcopy(thing, memo)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What torch calls."""
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self.made[id(tensor)] = self.make(tensor)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))
