"""dynamo: the forward of a model as one graph of torch calls."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.torch_private.activation_marks import unmarked_activations


@dataclass(frozen=True)
class ForwardTrace:
    """What a model's forward does, as one graph of torch calls.

    Attributes
    ----------
    graph_module : fx.GraphModule
        One placeholder per entry of `tensors`; returns a flat tuple of tensors.
    tensors : tuple of Tensor
        The tensors (parameters, buffers, inputs, constants: the model's and caller's own objects)
        that the placeholders stand for.
    examples : tuple of Tensor
        Fake tensors, one per result of the graph.
    rebuild : callable
        From one tensor per result to the object that the model returns.
    fake_mode : FakeTensorMode
    side_effects : tuple of str
        Python state that the forward changes and the graph does not.
    symbol : str or None
        Line that makes the first number or size that depends on data ("" if unknown).
    """

    graph_module: fx.GraphModule
    tensors: tuple[torch.Tensor, ...]
    examples: tuple[torch.Tensor, ...]
    rebuild: Callable[[Sequence[Any]], Any]
    fake_mode: Any
    side_effects: tuple[str, ...] = ()
    symbol: str | None = None


def trace_forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ForwardTrace:
    """Trace the model's forward into one graph, running nothing."""
    # Dynamo reads bytecode, so Python in the forward (loops, dataclasses, logging) is followed;
    # this entry point of it installs nothing in the model and leaves no compiled code behind.
    from torch._dynamo.functional_export import dynamo_graph_capture_for_export

    # It overwrites the graph it made with the model's own where the model is itself a graph.
    root = _Held(model) if isinstance(model, fx.GraphModule) else model
    with _told_warnings() as told, unmarked_activations():
        try:
            module = dynamo_graph_capture_for_export(root)(*args, **kwargs)
        except AssertionError as error:
            if "backend_input" not in str(error):
                raise
            raise CaptureError(
                f"The forward of {type(model).__name__} computes nothing with these inputs. Pass "
                "the inputs that it trains on, and return a tensor."
            ) from error
    effects = [text for text in told if "side effects" in text]
    places = [place for text in effects for place in re.findall(r"\"([^\"]+)\"", text)]
    call = (*args, *kwargs.values())
    codegen = module.graph._codegen  # holds the bytecode that flattens inputs, rebuilds outputs
    tensors = tuple(codegen.process_inputs(*call))
    results = module.graph.output_node().args[0]
    examples = tuple(node.meta["example_value"] for node in results)

    def rebuild(leaves: Sequence[Any]) -> Any:
        codegen.process_inputs(*call)
        return codegen.process_outputs(list(leaves))

    mode, symbol = module.meta["fake_mode"], _first_symbol(module.graph)
    return ForwardTrace(module, tensors, examples, rebuild, mode, tuple(places), symbol)


@contextlib.contextmanager
def _told_warnings() -> Iterator[list[str]]:
    """What dynamo warns of meanwhile."""
    # Python's filters are those of all threads: one that leaves `catch_warnings` (numba compiles in
    # a thread) would take ours away. So dynamo's module that warns is given an ear of our own.
    from torch._dynamo import output_graph

    told: list[str] = []
    with mock.patch.object(output_graph, "warnings", _Ear(told)):
        yield told


class _Ear:
    """The module `warnings`, but what is warned of goes into a list."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def warn(self, message: Any, *_: Any, **__: Any) -> None:
        self.told.append(str(message))

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)


def _first_symbol(graph: fx.Graph) -> str | None:
    for node in graph.nodes:
        made = node.meta.get("example_value")
        if isinstance(made, torch.Tensor):
            made = made.shape
        found = made if isinstance(made, (tuple, list)) else (made,)
        if any(isinstance(x, (torch.SymInt, torch.SymFloat, torch.SymBool)) for x in found):
            lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
            return ":".join(lines[-1]) if lines else ""
    return None


class _Held(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._held(*args, **kwargs)
