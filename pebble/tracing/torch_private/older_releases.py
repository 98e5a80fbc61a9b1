"""What torch 2.11 lacks for a capture and later releases have; this file goes when 2.11 does."""

from __future__ import annotations

import builtins
import contextlib
from collections import ChainMap
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import fx

_CHECK = "aten::_linalg_check_errors"


def give_builtins(codegen: Any) -> None:
    """Let the code that flattens a call and rebuilds its output find Python's own names.

    Parameters
    ----------
    codegen : object
        Of a graph that dynamo has captured.
    """
    # It demands every name that its code reads (`type`, `dict`) and looks among globals alone:
    # then no Hugging Face model, whose output is a class, can be called.
    for half in (codegen.dynamo_bytecode_flatten, codegen.dynamo_bytecode_unflatten):
        # No copy: that would keep everything alive that the user's module holds now.
        half.f_globals = ChainMap(half.f_globals, vars(builtins))


@contextlib.contextmanager
def unlogged_settings() -> Iterator[None]:
    """Within it dynamo does not note its settings in its log of compilations.

    It sorts every set among them and writes it as JSON; functions can be neither sorted nor
    written, so that a set of them ends in a traceback on the user's screen.
    """
    from torch._dynamo import utils

    with mock.patch.object(utils, "_get_dynamo_config_for_logging", lambda: None, create=True):
        yield


@contextlib.contextmanager
def kept_checks() -> Iterator[None]:
    """Within it a trace keeps what checks a linear solve.

    The check makes no tensor that anyone reads, and is swept out as dead: a planned step would
    train on with a singular matrix where eager raises. Later releases know that it has an effect.
    """
    from torch._higher_order_ops import effects

    if effects._get_effect(_CHECK) is not None:
        yield
        return
    handle = effects._register_effectful_op(_CHECK, effects._EffectType.ORDERED)
    try:
        yield
    finally:
        handle.destroy()


def sizes_from_tensors(graph: fx.Graph) -> list[bool]:
    """Read open sizes of tensors off these within a graph, where they are placeholders of it.

    Numbers that no tensor has as its size, counters of Python, stay placeholders.

    Returns
    -------
    list of bool
        For every placeholder that the graph had, whether it still has it.
    """
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    known: dict[Any, tuple[fx.Node, int]] = {}
    for node in placeholders:
        made = node.meta.get("example_value")
        for i, size in enumerate(made.shape if isinstance(made, torch.Tensor) else ()):
            if isinstance(size, torch.SymInt):
                known.setdefault(size.node.expr, (node, i))
    held = []
    for node in placeholders:
        made = node.meta.get("example_value")
        found = known.get(made.node.expr) if isinstance(made, torch.SymInt) else None
        held.append(found is None)
        if found is None:
            continue
        if node.users:
            with graph.inserting_after(placeholders[-1]):
                size_of = graph.call_function(torch.ops.aten.sym_size.int, found)
            size_of.meta["example_value"] = made
            node.replace_all_uses_with(size_of)
        graph.erase_node(node)
    return held
