"""How a plan is shown: as text, as a picture, as a page, and in the formats of other viewers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pebble.arguments import one_of
from pebble.formatting import Printed
from pebble.plan.report import plan_html, plan_text

if TYPE_CHECKING:
    from pebble.plan.explanation import Explanation
    from pebble.plan.figures import PlanFigures, PlanView
    from pebble.step_through import StepThrough


class ShownPlan(Printed):
    """What a plan looks like. A part of `pebble.plan.plan.Plan`."""

    if TYPE_CHECKING:

        @property
        def figures(self) -> PlanFigures:
            """What the report shows."""

        @property
        def view(self) -> PlanView:
            """What pictures are made from."""

    def __str__(self) -> str:
        return plan_text(self.figures)

    def _repr_html_(self) -> str:
        return plan_html(self.figures)

    def explain(self, *, time_limit: float = 30.0, display: bool | None = None) -> Explanation:
        """Why this plan is as it is, and what else would buy; see `pebble.explain`."""
        from pebble.finetune.explanations import explain

        return explain(self, time_limit=time_limit, display=display)  # type: ignore[arg-type,return-value]

    def plot(self, what: str = "memory", *, ax: Any = None, **options: Any) -> Any:
        """A picture of the plan with matplotlib; see `pebble.plotting`.

        Parameters
        ----------
        what : "memory", "timeline", "modules" or "matrices"
            Memory over the step; what each module holds over the step, and at the peak;
            Checkmate's R or S.
        ax : matplotlib Axes, optional
        **options
            Of the picture: `measured`, `matrix`.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        InvalidArgument
            If there is no such picture; lists those that there are.
        """
        from pebble.plan.plots import plot_memory
        from pebble.plan.schedule_plots import plot_matrices, plot_modules, plot_timeline

        pictures = {
            "memory": plot_memory,
            "timeline": plot_timeline,
            "modules": plot_modules,
            "matrices": plot_matrices,
        }
        return pictures[one_of("what", what, pictures)](self, ax=ax, **options)

    def step_through(self) -> StepThrough:
        """The schedule op by op: a slider in a notebook, frames of text anywhere else."""
        from pebble.plan.plan_frames import plan_frames

        return plan_frames(self.view)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as one page for a browser, which fetches nothing.

        Memory over the step by kind, without the plan, the budget and the bound; what each module
        holds. Hover an op for its module, source line and sizes; zoom; select values.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        from pebble.plan.page import write_page

        write_page(self.view, path)

    def to_memory_viz(self, path: str | os.PathLike[str]) -> None:
        """Write the schedule as a snapshot of torch's memory, for ``pytorch.org/memory_viz``.

        What is allocated and freed, tensor by tensor, in torch's caching allocator as simulated
        here; the stack of each is its op, module and source line.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        from pebble.plan.memory_snapshot import write_memory_snapshot

        write_memory_snapshot(self.view, path)

    def to_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the schedule as a trace for ``chrome://tracing`` or ``ui.perfetto.dev``.

        Ops in lanes (forward, backward, computed again), as long as their costs say, over the
        bytes in memory.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        from pebble.plan.chrome_trace import write_chrome_trace

        write_chrome_trace(self.view, path)
