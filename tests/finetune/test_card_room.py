"""The room on a card: every term named, and the plans below them all."""

from __future__ import annotations

from pebble.cards import CARDS
from pebble.finetune.card_room import MARGIN, CardRoom


def test_the_terms_add_up() -> None:
    room = CardRoom.of(CARDS["t4"], 15 * 10**9, asked_for=True)
    rows = dict(room.rows())
    offered = rows["offered to torch"] + sum(size for n, size in rows.items() if "assumed" in n)
    assert offered == rows["for torch's allocator"] < CARDS["t4"].memory_gb * 1e9
    assert rows["planned for"] == rows["budget"] + rows["margin"] == room.planned_bytes
    assert room.margin_bytes == MARGIN * 15e9
    assert "sold with 16 GB" in str(room)


def test_a_card_that_is_asked_for_limits_the_budget() -> None:
    room = CardRoom.of(CARDS["t4"], 20 * 10**9, asked_for=True)
    assert room.allowed_bytes == CARDS["t4"].usable_bytes
    assert "The budget is more than a T4 has" in str(room)


def test_a_budget_beyond_all_cards_is_not_limited() -> None:
    room = CardRoom.of(CARDS["h200"], 500 * 10**9, asked_for=False)
    assert room.allowed_bytes == 500 * 10**9
