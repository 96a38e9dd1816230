"""Which requests for our copies are declined, as values."""

from __future__ import annotations

from typing import Any

import pytest

from dpn.outbound.settings import RestoreSettings
from workers.restore.rules import Asked, refusal

ASKED = {"to_node": "south", "protocol": "rsync", "size": 1000}


def decided(settings: dict[str, Any] | None = None, restore_to: tuple[str, ...] = (), **asked: Any) -> str | None:
    return refusal(Asked(**{**ASKED, **asked}), RestoreSettings(**(settings or {})), restore_to)


def test_whoever_asks_gets_what_we_keep_where_nothing_speaks_against_it() -> None:
    assert decided() is None
    assert decided({"max_bytes": 1000, "refuse": ("east",)}, ("east", "south")) is None


@pytest.mark.parametrize(
    ("settings", "restore_to", "asked", "word"),
    [
        ({"refuse": ("south",)}, (), {}, "to this node"),
        ({"refuse": ("south",)}, ("south",), {}, "to this node"),
        ({}, ("east",), {}, "agreement"),
        ({}, (), {"protocol": "https"}, "rsync only"),
        ({}, (), {"size": None}, "no copy"),
        ({"max_bytes": 999}, (), {}, "1000 bytes"),
    ],
)
def test_what_speaks_against_it_is_said(
    settings: dict[str, Any], restore_to: tuple[str, ...], asked: dict[str, Any], word: str
) -> None:
    assert word in (decided(settings, restore_to, **asked) or "")


def test_a_node_that_is_refused_learns_nothing_of_what_we_keep() -> None:
    refused = {"refuse": ("south",)}
    assert decided(refused, size=None) == decided(refused) == decided(refused, size=10**15)
