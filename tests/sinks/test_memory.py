"""How the allocator is set."""

import ctypes
from typing import Any

import pytest

from sockd.sinks.memory import keep_freed


def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc takes both options."""
    told: list[tuple[int, int]] = []

    class Library:
        def __init__(self, _name: None) -> None:
            pass

        def mallopt(self, option: int, value: int) -> int:
            told.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    keep_freed()
    assert told == [(-1, 8 * 2**20), (-3, 2 * 2**20)]


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without the options serves as well."""
    library: Any = object
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library())
    keep_freed()
