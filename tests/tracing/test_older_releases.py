"""What torch 2.11 lacks is there; `make test-oldest` runs the captures that need it."""

from __future__ import annotations

from types import SimpleNamespace

from pebble.tracing.torch_private.older_releases import give_builtins
from pebble.tracing.torch_private.quiet_capture import quiet_capture


def test_the_code_around_a_graph_finds_pythons_names_and_the_models_first() -> None:
    globals_of_the_model = {"print": 1}
    flatten, unflatten = (SimpleNamespace(f_globals=globals_of_the_model) for _ in range(2))
    codegen = SimpleNamespace(dynamo_bytecode_flatten=flatten, dynamo_bytecode_unflatten=unflatten)
    give_builtins(codegen)
    globals_of_the_model["later"] = 2
    for half in (flatten, unflatten):
        found = {**half.f_globals}
        assert (found["type"], found["print"], found["later"]) == (type, 1, 2)
    assert "type" not in globals_of_the_model


def test_functions_among_the_settings_do_not_end_in_a_traceback() -> None:
    from torch._dynamo import config, utils

    before = utils._get_dynamo_config_for_logging
    with quiet_capture():
        assert print in config.ignore_logging_functions
        assert utils._get_dynamo_config_for_logging() is None
    assert utils._get_dynamo_config_for_logging is before
