"""The plans of one model, by the form of the inputs that each was made for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pebble.errors import PlanMismatch
from pebble.runtime.follower import Follower
from pebble.runtime.input_forms import InputForm

MOST_CHANGES = 3
"""So often a plan is made again because one Python value has changed; then it is a counter."""


class Members:
    """Followers of one model, by the forms of inputs that they are known to take.

    Several may take one form: a mode, a dropout's p or another Python value tells them apart.
    """

    def __init__(self, known: Iterable[tuple[InputForm | None, Follower]] = ()) -> None:
        self._by_form: dict[InputForm | None, list[Follower]] = {}
        for form, member in known:
            self.add(form, member)

    def __reduce__(self) -> tuple[Any, ...]:
        """What form each takes is found out again: torch's own forms are not made to be saved."""
        return Members, ([(None, member) for member in dict.fromkeys(self)],)

    def __len__(self) -> int:
        return len(set(self))

    def __iter__(self) -> Iterator[Follower]:
        """Every member, once for each form that it takes."""
        for members in self._by_form.values():
            yield from members

    def items(self) -> Iterator[tuple[InputForm | None, Follower]]:
        """Every member with a form that it takes; None where none is known yet."""
        for form, members in self._by_form.items():
            for member in members:
                yield form, member

    def add(self, form: InputForm | None, member: Follower) -> None:
        """A member takes inputs of a form; it is asked first from now on."""
        members = self._by_form.setdefault(form, [])
        if member in members:
            members.remove(member)
        members.insert(0, member)

    def drop(self, member: Follower) -> None:
        """A member can no longer be followed."""
        for members in self._by_form.values():
            if member in members:
                members.remove(member)

    def replace(self, member: Follower, other: Follower) -> None:
        """Another one takes what a member took."""
        for members in self._by_form.values():
            members[:] = [other if one is member else one for one in members]

    def clear(self) -> None:
        """None of them can be followed any longer."""
        self._by_form.clear()

    def of(self, form: InputForm) -> list[Follower]:
        """Those that are known to take inputs of a form, the latest first."""
        return list(self._by_form.get(form, ()))

    def others(self, form: InputForm) -> list[tuple[InputForm | None, Follower]]:
        """The rest, those with tensors as in the form last: their mismatch says most."""
        rest = [(other, member) for other, member in self.items() if other != form]
        return sorted(rest, key=lambda pair: form.has_tensors_of(pair[0]))


class Changes:
    """The Python values whose change led to another plan.

    Shapes are not among them: only what changes while the tensors of a call are as before is.
    """

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self.plans: dict[tuple[str, tuple[object, ...]], int] = {}

    def are_too_many(self, form: InputForm, mismatch: PlanMismatch) -> bool:
        """Note a change; whether this value has changed so often that it must be a counter."""
        subject = mismatch.subject
        found = self.found.setdefault(subject, set())
        found.add(mismatch.found)
        plans = self.plans[subject, form.tensors] = self.plans.get((subject, form.tensors), 0) + 1
        # of one shape so many plans; of several shapes so many values and the first one's
        return plans > MOST_CHANGES or len(found) > MOST_CHANGES + 1
