"""The only file that names torch's private capture calls; one reason beside each.

Written for torch 2.10 and newer. Everything else of the library sees plain fx graphs.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from pebble.errors import CaptureError


@dataclass(frozen=True)
class Trace:
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


def trace_forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Trace the model's forward into one graph, running nothing."""
    # Dynamo reads bytecode, so Python in the forward (loops, dataclasses, logging) is followed;
    # this entry point of it installs nothing in the model and leaves no compiled code behind.
    from torch._dynamo.functional_export import dynamo_graph_capture_for_export

    # It overwrites the graph it made with the model's own where the model is itself a graph.
    root = _Held(model) if isinstance(model, fx.GraphModule) else model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            module = dynamo_graph_capture_for_export(root)(*args, **kwargs)
        except AssertionError as error:
            if "backend_input" not in str(error):
                raise
            raise CaptureError(
                f"The forward of {type(model).__name__} computes nothing with these inputs. Pass "
                "the inputs that it trains on, and return a tensor."
            ) from error
    told = [str(w.message) for w in caught if "side effects" in str(w.message)]
    places = [place for text in told for place in re.findall(r"\"([^\"]+)\"", text)]
    call = (*args, *kwargs.values())
    codegen = module.graph._codegen  # holds the bytecode that flattens inputs, rebuilds outputs
    tensors = tuple(codegen.process_inputs(*call))
    results = module.graph.output_node().args[0]
    examples = tuple(node.meta["example_value"] for node in results)

    def rebuild(leaves: Sequence[Any]) -> Any:
        codegen.process_inputs(*call)
        return codegen.process_outputs(list(leaves))

    mode, symbol = module.meta["fake_mode"], _first_symbol(module.graph)
    return Trace(module, tensors, examples, rebuild, mode, tuple(places), symbol)


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


@dataclass(frozen=True)
class Joint:
    """A forward and backward graph, and what its ends stand for.

    Attributes
    ----------
    graph_module : fx.GraphModule
    inputs : tuple of (End, int) or None, one per placeholder
        ``(INPUT, i)``: argument i; ``(TANGENT, i)``: of result i.
    outputs : tuple of (End, int) or None, one per output
        ``(RESULT, i)``; ``(UPDATE, i)``: new contents of argument i; ``(GRADIENT, i)``.
    """

    graph_module: fx.GraphModule
    inputs: tuple[tuple[End, int] | None, ...]
    outputs: tuple[tuple[End, int] | None, ...]


class End(StrEnum):
    """What an input or output of a joint graph stands for."""

    INPUT = "input"
    TANGENT = "tangent"
    RESULT = "result"
    UPDATE = "update"
    GRADIENT = "gradient"
    UNKNOWN = "unknown"


def trace_joint(graph: fx.GraphModule, tensors: Sequence[torch.Tensor], fake_mode: Any) -> Joint:
    """Trace forward and backward of a flat graph into one functional aten graph.

    Parameters
    ----------
    graph : fx.GraphModule
        One placeholder per tensor; returns a tuple of tensors.
    tensors : sequence of Tensor
    fake_mode : FakeTensorMode
    """
    # The joint graph with a description of every input and output; the older entry points have
    # a positional schema that knows no mutated inputs.
    from torch._functorch.aot_autograd import aot_export_joint_with_descriptors

    # Without a context of its own, a graph traced inside someone's compile would see theirs.
    from torch._guards import TracingContext, tracing

    # Real tensors would silently get symbolic sizes inside the context.
    flat = tuple(fake_mode.from_tensor(t, static_shapes=True) for t in tensors)
    with contextlib.ExitStack() as stack:
        stack.enter_context(fake_mode)
        stack.enter_context(tracing(TracingContext(fake_mode)))
        made = aot_export_joint_with_descriptors(
            stack, graph, flat, {}, keep_inference_input_mutations=False
        )
    module = made.graph_module
    module.graph.set_codegen(fx.graph.CodeGen())  # flat arguments, instead of two tuples
    nodes = module.graph.nodes
    inputs = [_input_end(n.meta["desc"]) for n in nodes if n.op == "placeholder"]
    outputs = [_output_end(d) for d in module.graph.output_node().meta["desc"]]
    return Joint(module, tuple(inputs), tuple(outputs))


def _input_end(desc: Any) -> tuple[End, int] | None:
    kind = type(desc).__name__
    if kind == "PlainAOTInput":
        return End.INPUT, desc.idx
    if kind == "TangentAOTInput" and type(desc.output).__name__ == "PlainAOTOutput":
        return End.TANGENT, desc.output.idx
    return None


def _output_end(desc: Any) -> tuple[End, int] | None:
    kind = type(desc).__name__
    if desc is None:
        return End.UNKNOWN, -1
    if kind == "PlainAOTOutput":
        return End.RESULT, desc.idx
    for ours, theirs, field in (
        (End.UPDATE, "InputMutationAOTOutput", "mutated_input"),
        (End.GRADIENT, "GradAOTOutput", "grad_of"),
    ):
        if kind == theirs and type(getattr(desc, field)).__name__ == "PlainAOTInput":
            return ours, getattr(desc, field).idx
    return None


def fake_mode_of(tensors: Sequence[Any]) -> Any:
    """The FakeTensorMode that one of the tensors belongs to, or None for real tensors."""
    # The only way to recognise fake tensors, and to make more of the same mode.
    from torch._subclasses.fake_tensor import FakeTensor

    return next((t.fake_mode for t in tensors if isinstance(t, FakeTensor)), None)


@contextlib.contextmanager
def quiet_capture() -> Iterator[None]:
    """Gradients on, and no trace afterwards: warnings, random state, dynamo's configuration.

    Garbage collection waits: it takes a third of the time of tracing a large model, whose graphs
    it visits again and again and finds alive.
    """
    # A call of a logger would break the graph; its text has no part in a training step.
    from torch._dynamo import config

    loggers: set[Any] = {
        getattr(logging.Logger, name)
        for name in (
            "debug", "info", "warning", "error", "exception", "critical", "log",
            "warning_once", "info_once", "warning_advice",
        )
        if hasattr(logging.Logger, name)
    }  # fmt: skip
    loggers |= {print, warnings.warn}
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _kept_random_state(),
        _no_collection(),
        warnings.catch_warnings(),
        config.patch(
            ignore_logging_functions=loggers | set(config.ignore_logging_functions),
            # a plan holds for one shape: no number of the model may become a symbol
            specialize_int=True,
            specialize_float=True,
            assume_static_by_default=True,
            automatic_dynamic_shapes=False,
        ),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _kept_random_state() -> Iterator[None]:
    started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if started else []
    with torch.random.fork_rng(devices=devices):
        yield


def explain(error: BaseException) -> tuple[str, str]:
    """What stopped a capture and where: the first sentence of torch's message, and file:line."""
    where = ""
    # Dynamo keeps the user's frames apart from its own.
    stack = getattr(error, "real_stack", None)
    if stack:
        where = f"{stack[-1].filename}:{stack[-1].lineno}"
    text = str(getattr(error, "msg", "") or error)
    if not where:
        found = re.findall(r'File "([^"]+)", line (\d+)', str(error))
        where = ":".join(found[-1]) if found else _innermost(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and lines[1].startswith("Explanation:"):
        what += ": " + lines[1].removeprefix("Explanation:").strip()
    return what.rstrip("."), where


def _innermost(error: BaseException) -> str:
    """The last frame outside of torch, if any."""
    here = str(Path(__file__).parents[2])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and not frame.filename.startswith(here)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def is_tensor_tree(thing: Any) -> bool:
    """Whether pytree looks inside of an object of this type (tuples, dicts, model outputs)."""
    # The registry of container types; transformers and others add theirs.
    return type(thing) in pytree.SUPPORTED_NODES or pytree.is_namedtuple_instance(thing)


# -- running what was captured -------------------------------------------------------------------


@contextlib.contextmanager
def outside_fake_mode() -> Iterator[None]:
    """Real tensors inside of a compiler's fake mode: to time and measure ops while it compiles."""
    # Only torch's own switch also restores its mode stack.
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():
        yield


def below_autograd() -> Any:
    """A context in which ops run without autograd's bookkeeping: halves bring their backward."""
    # Saves about half a microsecond an op; `no_grad` alone still passes autograd's kernels.
    return torch._C._AutoDispatchBelowAutograd()


def adds_up(leaf_node: Any) -> bool:
    """Whether the backward that is running will add to a leaf's gradient.

    It does under ``backward()``; not under ``torch.autograd.grad``, nor where ``inputs=`` leaves
    this leaf out.
    """
    # The engine knows; nothing public tells. It refuses to say so of a leaf in autograd.grad.
    try:
        return bool(torch._C._will_engine_execute_node(leaf_node))
    except RuntimeError:
        return False
