"""A plan as one page for a browser: nothing is fetched, hover an op to see where it comes from."""

from __future__ import annotations

import json
import os
from html import escape
from importlib.resources import files

from pebble.plan.figures import PlanView
from pebble.plan.page_data import page_data
from pebble.textfile import write_text


def page_text(view: PlanView) -> str:
    """The page of a plan: HTML with its style, its script and its data."""
    data = json.dumps(page_data(view), separators=(",", ":"), ensure_ascii=True)
    template = files("pebble.plan").joinpath("page.html").read_text(encoding="utf-8")
    title = f"pebble: {view.figures.model}"
    head, _, tail = template.replace("__TITLE__", escape(title)).partition("__DATA__")
    return head + data.replace("<", "\\u003c") + tail


def write_page(view: PlanView, path: str | os.PathLike[str]) -> None:
    """Write the page of a plan.

    Raises
    ------
    InvalidArgument
        If the folder is missing or nothing can be written there.
    """
    write_text(path, page_text(view), what="The page")
