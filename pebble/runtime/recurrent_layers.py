"""torch's recurrent networks, layer by layer: the same kernels, the same draws, the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

Layer = Callable[..., Any]
RunLayer = Callable[[int, Layer, tuple[Any, ...]], Any]


def run_layers(module: nn.RNNBase, data: Any, state: Any, run: RunLayer) -> Any:
    """What ``module(data, state)`` returns, each layer handed to `run`.

    Parameters
    ----------
    module : nn.LSTM, nn.GRU or nn.RNN
    data : Tensor or PackedSequence
    state : Tensor, tuple of Tensor or None
    run : callable
        Takes the number of a layer, a function and its arguments; returns the function's result.
    """
    walk = _Walk(module, data)
    values, states, finals = walk.values, walk.states(state), []
    for layer in range(module.num_layers):
        mine = slice(layer * walk.directions, (layer + 1) * walk.directions)
        values, *final = run(layer, walk.layer(layer), (values, *(s[mine] for s in states)))
        finals.append(final)
        if layer + 1 < module.num_layers and module.dropout:
            values = torch.dropout(values, module.dropout, module.training)
    return walk.returned(values, [torch.cat(parts) for parts in zip(*finals)])


class _Walk:
    """One call of a recurrent network: its arguments as the kernels take them, and back.

    The kernels walk over time first, and dropout draws in that order.
    """

    def __init__(self, module: nn.RNNBase, data: Any) -> None:
        self.module = module
        self.packed = data if isinstance(data, PackedSequence) else None
        self.lstm = isinstance(module, nn.LSTM)
        self.directions = 2 if module.bidirectional else 1
        values: torch.Tensor = data if self.packed is None else self.packed.data
        self.single = self.packed is None and values.dim() == 2
        self.turned = self.packed is None and not self.single and module.batch_first
        if self.single:
            values = values.unsqueeze(1)
        self.values = values.transpose(0, 1) if self.turned else values

    def layer(self, layer: int) -> Layer:
        """One layer as a function of its input and its states."""
        module, lstm = self.module, self.lstm
        kernel = _kernel(module)
        sizes = () if self.packed is None else (self.packed.batch_sizes,)
        order = () if self.packed is not None else (False,)
        first = layer * self.directions
        last = first + self.directions

        def run(values: torch.Tensor, *state: torch.Tensor) -> Any:
            # read when it runs, also when it runs again: a cast may have replaced them
            weights = [w for one in module.all_weights[first:last] for w in one]
            start: Any = state if lstm else state[0]
            options = (module.bias, 1, 0.0, module.training, module.bidirectional)
            return kernel(values, *sizes, start, weights, *options, *order)

        return run

    def states(self, given: Any) -> list[torch.Tensor]:
        """The first states of all layers."""
        module = self.module
        if given is None:
            hidden = getattr(module, "proj_size", 0) or module.hidden_size
            sizes = [hidden, module.hidden_size] if self.lstm else [hidden]
            return [self._zeros(size) for size in sizes]
        states = list(given) if self.lstm else [given]
        if self.single:
            return [state.unsqueeze(1) for state in states]
        order = None if self.packed is None else self.packed.sorted_indices
        return [_in_order(state, order) for state in states]

    def returned(self, values: torch.Tensor, finals: list[torch.Tensor]) -> Any:
        """The result in the form that the module returns it."""
        packed = self.packed
        if self.turned:
            values = values.transpose(0, 1)
        elif self.single:
            values, finals = values.squeeze(1), [final.squeeze(1) for final in finals]
        if packed is None:
            return values, tuple(finals) if self.lstm else finals[0]
        order = packed.unsorted_indices
        finals = [_in_order(final, order) for final in finals]
        made = PackedSequence(values, packed.batch_sizes, packed.sorted_indices, order)
        return made, tuple(finals) if self.lstm else finals[0]

    def _zeros(self, size: int) -> torch.Tensor:
        values, packed = self.values, self.packed
        batch = values.size(1) if packed is None else int(packed.batch_sizes[0])
        shape = (self.module.num_layers * self.directions, batch, size)
        return torch.zeros(shape, dtype=values.dtype, device=values.device)


def _kernel(module: nn.RNNBase) -> Callable[..., Any]:
    if isinstance(module, nn.RNN):
        return torch.rnn_relu if module.nonlinearity == "relu" else torch.rnn_tanh
    return torch.lstm if isinstance(module, nn.LSTM) else torch.gru


def _in_order(state: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    return state if order is None else state.index_select(1, order)
