"""Arithmetic and traffic of an op, from the shapes of its node alone; nothing is executed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.utils.flop_counter import flop_registry

from pebble.measure.sampling import value_of
from pebble.tracing.torch_private import pytree

if TYPE_CHECKING:
    from pebble.tracing import Captured


@dataclass(frozen=True)
class Work:
    """What one execution of an op does.

    Attributes
    ----------
    flops : int
        Floating-point operations; a multiply-add counts two.
    bytes : int
        Read and written, each argument and each result once.
    dtype : torch.dtype
        In which the arithmetic is done.
    dense : bool
        Whether it is matrix arithmetic (which has units of its own on a GPU).
    """

    flops: int
    bytes: int
    dtype: torch.dtype
    dense: bool


def op_flops(captured: Captured) -> list[int]:
    """Floating-point operations of every op of a captured step; 0 for the boundary."""
    return [work_of(nodes[0]).flops if nodes else 0 for nodes in captured.op_nodes]


def work_of(node: fx.Node) -> Work:
    """Arithmetic and traffic of the op that a node calls.

    Matrix products, convolutions and attention follow torch's flop counter (attention without the
    halving of a causal mask), and the CPU's flash attention likewise; every other op counts one
    per element of its largest argument or result, more for exponentials and the like.
    """
    args, kwargs = fx.map_arg((node.args, node.kwargs), value_of)
    read = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    made = [t for t in pytree.tree_leaves(node.meta.get("val")) if isinstance(t, torch.Tensor)]
    name = _name(node)
    dense = _dense_flops(node, name, args, kwargs)
    largest = max((t.numel() for t in (*read, *made)), default=0)
    flops = largest * _PER_ELEMENT.get(name, 1) if dense is None else dense
    return Work(flops, _bytes(name, read, made), _dtype(read, made), dense is not None)


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    full = getattr(schema, "name", str(node.target))
    return str(full).removeprefix("aten::")


# -- arithmetic ------------------------------------------------------------------------------------


def _dense_flops(node: fx.Node, name: str, args: Any, kwargs: Any) -> int | None:
    """Of matrix products, convolutions and attention; None for everything else."""
    if name in _OWN:
        return _OWN[name](args)
    if name == "convolution":
        return _convolution(args, node.meta["val"].shape)
    formula = flop_registry.get(getattr(node.target, "overloadpacket", None))
    if formula is None:
        return None
    return int(formula(*args, **kwargs, out_val=node.meta["val"]))


def _convolution(args: Sequence[Any], out: Sequence[int]) -> int:
    """One direction: each output element sums over a filter (input element, when transposed)."""
    x, w, transposed = args[0], args[1], args[6]
    per_element = 2 * math.prod(w.shape[1:])
    return int(math.prod(x.shape if transposed else out) * per_element)


def _convolution_backward(args: Sequence[Any]) -> int:
    """The input's and the weight's gradient each cost what the forward does."""
    grad, x, w, transposed, mask = args[0], args[1], args[2], args[7], args[10]
    one: int = 2 * math.prod(w.shape[1:]) * math.prod((x if transposed else grad).shape)
    return one * (bool(mask[0]) + bool(mask[1]))


def _attention(args: Sequence[Any]) -> int:
    """Scores and their product with the values: two batched matrix products."""
    (*batch, q, width), keys, out = args[0].shape, args[1].shape[-2], args[2].shape[-1]
    return int(2 * math.prod(batch) * q * keys * (width + out))


def _attention_backward(args: Sequence[Any]) -> int:
    """The scores again, then the gradients of values, scores, queries and keys: five products."""
    (*batch, q, width), keys, out = args[1].shape, args[2].shape[-2], args[3].shape[-1]
    return int(2 * math.prod(batch) * q * keys * (3 * width + 2 * out))


_OWN: dict[str, Callable[[Sequence[Any]], int]] = {
    "convolution_backward": _convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_scaled_dot_product_fused_attention_overrideable_backward": _attention_backward,
    "mv": lambda args: 2 * args[0].numel(),
    "dot": lambda args: 2 * args[0].numel(),
    "addmv": lambda args: 2 * args[1].numel(),
    "addbmm": lambda args: 2 * args[1].numel() * args[2].shape[-1],
}
# Scalar operations an element, where it is far from one: polynomial or table evaluations.
_PER_ELEMENT: dict[str, int] = {
    **dict.fromkeys(("exp", "log", "sin", "cos", "sigmoid", "silu", "softplus", "expm1"), 10),
    **dict.fromkeys(("silu_backward", "log1p", "pow", "sqrt", "rsqrt"), 10),
    **dict.fromkeys(("_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data"), 10),
    **dict.fromkeys(("tanh", "erf", "gelu", "gelu_backward", "mish", "mish_backward"), 20),
    **dict.fromkeys(("_softmax", "_safe_softmax", "max_pool2d_with_indices", "sort", "topk"), 20),
    **dict.fromkeys(("native_dropout", "bernoulli", "rand_like", "randn_like"), 40),
    **dict.fromkeys(("native_layer_norm", "native_group_norm", "native_batch_norm"), 5),
    **dict.fromkeys(("native_layer_norm_backward", "native_group_norm_backward"), 5),
    **dict.fromkeys(("native_batch_norm_backward", "_native_batch_norm_legit_functional"), 5),
}


# -- traffic ---------------------------------------------------------------------------------------


def _bytes(name: str, read: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> int:
    written = sum(map(_touched, made))
    if name in _WRITES_ONLY:
        return written
    if name in _GATHERS:  # reads as much of the table as it writes, and the indices
        return 2 * written + sum(map(_touched, read[1:]))
    return written + sum(map(_touched, read))


def _touched(tensor: torch.Tensor) -> int:
    """Distinct bytes of a tensor: a dimension of stride 0 repeats them."""
    sizes = (n for n, stride in zip(tensor.shape, tensor.stride()) if stride != 0)
    return math.prod(sizes) * tensor.itemsize if tensor.numel() else 0


def _dtype(read: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> torch.dtype:
    """The narrowest floating type among the matrices in, which the units multiply in."""
    floats = [t.dtype for t in (*read, *made) if t.is_floating_point() and t.dim() > 1]
    floats = floats or [t.dtype for t in (*read, *made) if t.is_floating_point()]
    return min(floats, key=lambda dtype: dtype.itemsize, default=torch.float32)


_WRITES_ONLY = frozenset(
    ("full", "zeros", "ones", "empty", "full_like", "zeros_like", "ones_like", "empty_like")
    + ("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "arange")
    + ("rand_like", "randn_like", "scalar_tensor", "rand", "randn", "bernoulli")
)
_GATHERS = frozenset(
    ("embedding", "index_select", "index", "gather", "_unsafe_index", "nll_loss_forward")
)
