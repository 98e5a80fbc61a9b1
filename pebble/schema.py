"""Data from outside, checked against a schema before anything is built from them."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pebble.errors import PebbleError

if TYPE_CHECKING:
    from pydantic import BaseModel


def check_data(
    data: Any, form: Callable[[], type[BaseModel]], *, what: str, error: type[PebbleError]
) -> None:
    """Refuse data that do not have the form of a schema.

    Parameters
    ----------
    data : object
        Parsed JSON.
    form : callable
        Loads the schema, a model of pydantic's.
    what : str
        Begins the sentence, such as "The plan 'plan.json' is damaged".
    error : type
        What is raised.

    Raises
    ------
    PebbleError
        Of the given kind; names the first entry that is wrong, what stands there and what should.
    """
    try:
        from pydantic import ValidationError

        schema = form()
    except ModuleNotFoundError:  # a machine that a plan was carried to, without our dependencies
        warnings.warn(
            "pydantic is not installed, so the form of files is not checked; what the referee can "
            "replay still is. Install pydantic.",
            stacklevel=2,
        )
        return
    try:
        schema.model_validate(data)
    except ValidationError as raised:
        first = raised.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"]) or "it"
        if first["type"] == "missing":
            reason = f"{where} is missing"
        elif first["type"] == "recursion_loop":
            reason = f"{where} is nested too deeply"
        else:
            reason = f"{where} is {shortened(first['input'])}; {_lower(first['msg'])}"
        raise error(f"{what}: {reason}.") from None


def shortened(value: Any, limit: int = 60) -> str:
    """How a value from outside is shown in a sentence: not longer than that.

    Examples
    --------
    >>> shortened("many " * 1000, 12)
    "'man...any '"
    """
    show = reprlib.Repr()
    show.maxstring = show.maxother = show.maxlong = limit
    show.maxlevel = 2
    try:
        text = show.repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 3 * limit else text[: 3 * limit] + "..."


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
