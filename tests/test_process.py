"""The directories that relative paths lead to."""

from pathlib import Path

import platformdirs
import pytest

from sockd.errors import SockdError
from sockd.plan import Directories
from sockd.process import directories


def test_systemd_says_where() -> None:
    """Of several directories that systemd names, the first is ours, for root and for others."""
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "LOGS_DIRECTORY": "/var/log/a"}
    for uid in (0, 1000):
        assert directories(environ, uid) == Directories(Path("/run/a"), Path("/var/log/a"))


def test_root_has_the_usual_places() -> None:
    """Without systemd's word (an empty one says nothing) root's files are where daemons have them."""
    assert directories({"RUNTIME_DIRECTORY": ""}, 0) == Directories(
        Path("/run/sockd"), Path("/var/log/sockd")
    )


def test_relative_directories_are_made_absolute() -> None:
    """A plan holds no path that changes with the working directory."""
    found = directories({"RUNTIME_DIRECTORY": "run", "LOGS_DIRECTORY": "log"}, 1000)
    assert found == Directories(Path.cwd() / "run", Path.cwd() / "log")


def test_users_have_their_own() -> None:
    """A user's directories end in our name and are absolute."""
    found = directories({}, 1000)
    assert found.runtime.is_absolute()
    assert found.runtime.name == "sockd"
    assert "sockd" in found.logs.parts


def test_unsafe_directory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When someone else holds the user's runtime directory, one line says what to do."""

    def refuse(*_: object, **__: object) -> Path:
        raise PermissionError("owned by another user")

    monkeypatch.setattr(platformdirs, "user_runtime_path", refuse)
    with pytest.raises(SockdError, match=r"^there is no safe directory.*set RUNTIME_DIRECTORY$"):
        directories({}, 1000)
