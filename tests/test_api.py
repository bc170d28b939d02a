"""sockd.api: every name is there, and none makes `sockd check` slow."""

import subprocess
import sys

import pytest

from sockd import api


def test_every_name_is_there() -> None:
    """Each promised name can be imported, those too that are loaded late, and is listed once."""
    assert sorted(set(api.__all__)) == sorted(api.__all__)
    for name in api.__all__:
        assert getattr(api, name) is not None


def test_nothing_else_is_there() -> None:
    """A name that is not promised is an error of the usual kind."""
    with pytest.raises(AttributeError, match=r"module 'sockd\.api' has no attribute 'Daemon'"):
        api.Daemon  # type: ignore[attr-defined] # noqa: B018


def test_specifications_are_quick() -> None:
    """Importing it loads nothing of Twisted, and nothing of sockd that runs."""
    program = "import sys; import sockd.api; print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    unwanted = {"twisted", "zope", "asyncio", "ssl", "sockd.transports", "sockd.tree", "sockd.plan"}
    assert "sockd.protocols.contract" in modules
    assert modules & unwanted == set()
