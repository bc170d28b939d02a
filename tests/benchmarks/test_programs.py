"""What the programs that are measured are given."""

import pytest

from benchmarks.programs import COMPILED, environment


def test_servers_have_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep what they compile, in a place of the benchmark's, though the measuring program may not."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("LANG", "C")
    given = environment({"LOGS_DIRECTORY": "/logs"})
    assert "PYTHONDONTWRITEBYTECODE" not in given
    assert (given["PYTHONPYCACHEPREFIX"], given["LANG"], given["LOGS_DIRECTORY"]) == (
        str(COMPILED), "C", "/logs"
    )  # fmt: skip
