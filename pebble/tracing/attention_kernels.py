"""Which kernel a card takes for attention, as torch 2.11 to 2.13 choose it.

Source: ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp`` and ``sdp_utils_cpp.h`` (the checks
of ``can_use_*_attention``, their order, and what differs between those releases).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx

from pebble.tracing.torch_private.operators import op_name

FUSED = ("flash", "efficient", "cudnn")
MATH = "math"
_HALVES = (torch.float16, torch.bfloat16)
_CUDNN_FROM = 91500
"""Of cuDNN: later ones are preferred on compute capability 9.0 and 10.x."""


@dataclass(frozen=True)
class Libraries:
    """What the choice depends on besides the card and the tensors.

    Attributes
    ----------
    torch : (int, int)
        Major and minor release.
    cudnn : int
        Version as cuDNN writes it.
    allowed : frozenset of str
        Kernels that are not switched off (`torch.backends.cuda.enable_flash_sdp` and so on).
    deterministic : bool
        Whether `torch.use_deterministic_algorithms` is on.
    """

    torch: tuple[int, int]
    cudnn: int
    allowed: frozenset[str] = frozenset((*FUSED, MATH))
    deterministic: bool = False


@dataclass(frozen=True)
class Attention:
    """A call of `torch.nn.functional.scaled_dot_product_attention`.

    Attributes
    ----------
    query, key, value : Tensor
        Only looked at from outside.
    mask : Tensor or None
    dropout : float
    causal, grouped : bool
        ``is_causal`` and ``enable_gqa``.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    dropout: float = 0.0
    causal: bool = False
    grouped: bool = False

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Query, key and value."""
        return self.query, self.key, self.value

    @property
    def trains(self) -> bool:
        """Whether a backward follows."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)

    @property
    def half(self) -> bool:
        """Whether it is computed in fp16 or bf16."""
        return self.query.dtype in _HALVES


Check = Callable[[Attention, int, Libraries], bool]


def kernel_for(call: Attention, sm: int, libraries: Libraries) -> str:
    """The kernel that a card takes for a call.

    Parameters
    ----------
    sm : int
        Compute capability, such as 75.

    Returns
    -------
    "cudnn", "flash", "efficient" or "math"

    Examples
    --------
    >>> x = torch.zeros(1, 4, 128, 64, dtype=torch.bfloat16)
    >>> now = Libraries((2, 13), 91900)
    >>> [kernel_for(Attention(x, x, x), sm, now) for sm in (75, 80, 90)]
    ['math', 'flash', 'cudnn']
    """
    first = ("cudnn",) if sm // 10 in (9, 10) and libraries.cudnn > _CUDNN_FROM else ()
    names: tuple[str, ...] = (*first, "flash", "efficient")
    for name in names:
        if name in libraries.allowed and _CHECKS[name](call, sm, libraries):
            return name
    return MATH


def _flash(call: Attention, sm: int, libraries: Libraries) -> bool:
    sizes = {t.shape[-1] for t in call.tensors}
    width = call.query.shape[-1]
    small_memory = sm in (86, 87, 88, 89, 120, 121)
    return (
        sm >= 80
        and call.half
        and call.mask is None
        and _fits_fused(call, grouped=True)
        and _rows_in_order(call, whatever_size_one=True)
        and len(sizes) == 1
        and width <= 256
        and (not call.causal or call.query.shape[-2] == call.key.shape[-2])
        and not (
            small_memory and call.trains and width > 192 and (width <= 224 or call.dropout > 0)
        )
    )


def _efficient(call: Attention, sm: int, libraries: Libraries) -> bool:
    kinds = (torch.float16, torch.float32, *((torch.bfloat16,) if sm >= 80 else ()))
    unit = 4 if sm >= 80 else 1
    if sm >= 80 or call.half:  # tensor cores read 128 bits at once
        unit = max(unit, 8 if call.half else 4)
    sizes = call.query.shape[-1], call.value.shape[-1]
    return (
        call.query.dtype in kinds
        and _fits_fused(call, grouped=False)
        and _rows_in_order(call, whatever_size_one=False)
        and call.query.shape[-1] == call.key.shape[-1]
        and all(n > 0 and n % unit == 0 for n in sizes)
    )


def _cudnn(call: Attention, sm: int, libraries: Libraries) -> bool:
    widths = call.query.shape[-1], call.value.shape[-1]
    most = 256 if sm == 90 else 128
    drops = call.dropout > 0.0
    if drops and libraries.torch >= (2, 12) and call.dropout * 16 % 1:
        return False
    if drops and 91100 < libraries.cudnn < 91400:
        return False
    return (
        call.half
        and sm >= 80
        and not libraries.deterministic
        and _fits_fused(call, grouped=True)
        and _rows_in_order(call, whatever_size_one=True)
        and _takes_mask(call)
        and all(n <= most and n % 8 == 0 for n in widths)
        and call.key.shape[2] != 1
        and not (drops and call.query.shape[2] == 1)
    )


_CHECKS: dict[str, Check] = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn}


def _fits_fused(call: Attention, *, grouped: bool) -> bool:
    """What all fused kernels ask of shapes and dtypes; `grouped`: fewer heads of keys are taken."""
    query, key, value = call.tensors
    if any(t.dim() != 4 or t.dtype is not query.dtype for t in call.tensors):
        return False
    if len({t.shape[0] for t in call.tensors}) > 1 or not query.shape[-2] or not key.shape[-2]:
        return False
    if call.grouped and grouped:
        return key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0
    return query.shape[1] == key.shape[1] == value.shape[1]


def _rows_in_order(call: Attention, *, whatever_size_one: bool) -> bool:
    in_order = all(t.stride(-1) == 1 for t in call.tensors)
    in_order = in_order or (whatever_size_one and call.query.shape[-1] == 1)
    return in_order and (call.mask is None or call.mask.stride(-1) == 1)


def _takes_mask(call: Attention) -> bool:
    mask, (batch, heads, rows, _) = call.mask, call.query.shape
    if mask is None:
        return True
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    whole = (batch, heads, rows, call.key.shape[2])[-mask.dim() :]
    return all(n in (1, size) for n, size in zip(mask.shape, whole))


_OPS = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_efficient_attention": "efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn",
    "aten::_safe_softmax": MATH,  # the one op that nothing else makes
}


def kernels_of(joint: fx.Graph) -> dict[str, int]:
    """How many attentions of a step's forward each kernel computes."""
    names = (_OPS.get(op_name(node.target)) for node in joint.nodes)
    return dict(Counter(name for name in names if name is not None))
