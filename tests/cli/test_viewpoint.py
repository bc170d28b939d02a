"""What the daemon's user can't do with a file that root finds right."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sockd.base.account import Account
from sockd.cli import main, viewpoint
from sockd.cli.viewpoint import Viewpoint
from sockd.control.language import Json, Refused
from sockd.plan import build
from sockd.plan.plan import Plan
from sockd.process.directories import Directories

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root sees more than others")

NOBODY = pwd.getpwnam("nobody")
FILE = """
include: more.yaml
endpoints:
  echo: {listen: ['tcp://127.0.0.1:80', 'unix://echo.sock', 'unix://@abstract'], protocol: echo}
  log: {listen: 'unix://there/log.sock', protocol: line-log, options: {path: app.log}}
  out: {listen: 'tcp://127.0.0.1:81', protocol: line-log, options: {path: /dev/stdout}}
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Everybody may enter it, and read the file, but only group 4242 reads what that includes."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    path.chmod(0o755)
    for name in ("run", "log"):
        (path / name).mkdir()
    (path / "sockd.yaml").write_text(FILE)
    (path / "more.yaml").write_text("endpoints: {}\n")
    (path / "more.yaml").chmod(0o640)
    os.chown(path / "more.yaml", 0, 4242)
    yield path
    shutil.rmtree(path)


def reads(directory: Path) -> Callable[[Path], Plan]:
    return lambda file: build.read(file, Directories(directory / "run", directory / "log"))


def seen(directory: Path, view: Viewpoint) -> list[str]:
    read = reads(directory)
    read(directory / "sockd.yaml")  # as the command does: what is imported may be for root's eyes only
    found = viewpoint.problems(view, directory / "sockd.yaml", read)
    return [line.removeprefix(f"{directory}/") for line in found]


def as_nobody(*groups: int) -> Viewpoint:
    return Viewpoint(Account(NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid, *groups)), "the user nobody")


def nowhere() -> Json:
    raise Refused(os.EX_UNAVAILABLE, "no sockd is running")


def test_what_can_not_be_read(directory: Path) -> None:
    """Each problem that a reload would have, with its place; root is root again afterwards."""
    assert seen(directory, as_nobody()) == [
        "more.yaml: the file can't be read: Permission denied (as the user nobody)"
    ]
    assert os.geteuid() == 0


def test_where_it_can_not_write(directory: Path) -> None:
    """Sockets' directories and line-log's files; not ports, which a start may bind as root."""
    lines = seen(directory, as_nobody(4242))
    why = f"no right to write to {directory}"
    assert [line.partition(": ")[2] for line in lines] == [
        f"endpoints.echo: unix://{directory}/run/echo.sock: {why}/run (as the user nobody)",
        f"daemon.control: unix://{directory}/run/control.sock: {why}/run (as the user nobody)",
        f"endpoints.log: {why}/log/app.log (as the user nobody)",
    ]
    for name in ("run", "log"):
        os.chown(directory / name, NOBODY.pw_uid, -1)
    (directory / "log" / "app.log").touch(0o644)
    assert len(seen(directory, as_nobody(4242))) == 1
    (directory / "log" / "app.log").unlink()
    assert not seen(directory, as_nobody(4242))


def test_a_file_that_could_not_be_made_again(directory: Path) -> None:
    """A file of the user's own in a directory of root's: it can be written to until logrotate renames it."""
    (directory / "log" / "app.log").touch()
    for path in ("run", "log/app.log"):
        os.chown(directory / path, NOBODY.pw_uid, -1)
    (line,) = seen(directory, as_nobody(4242))
    why = f"no right to make it again in {directory}/log, when it has been renamed"
    assert f"{directory}/log/app.log: {why} (as the user nobody)" in line
    with (directory / "sockd.yaml").open("a") as file:
        file.write("daemon: {log: {to: sockd.log}}\n")
    assert seen(directory, as_nobody(4242))[1:] == [
        f"sockd.yaml: daemon.log.to: no right to write to {directory}/log/sockd.log (as the user nobody)"
    ]
    (directory / "sockd.yaml").write_text(FILE)
    (directory / "log" / "app.log").unlink()
    os.mkfifo(directory / "log" / "app.log")
    os.chown(directory / "log" / "app.log", NOBODY.pw_uid, -1)
    assert not seen(directory, as_nobody(4242))


def test_a_user_by_name() -> None:
    """With its own groups and those that are named; by number it need not have a name."""
    assert viewpoint.named("nobody", nowhere).account == Account.of(NOBODY.pw_uid)
    assert viewpoint.named("nobody:daemon,4242", nowhere).account.groups[-2:] == (1, 4242)
    stranger = viewpoint.named("54321", nowhere)
    assert (stranger.account.uid, stranger.words) == (54321, "the user 54321")
    for text in ("no-such-user", "nobody:no-such-group"):
        with pytest.raises(Refused, match=r"^--as no.*: name not found: 'no-such-.*DynamicUser") as refused:
            viewpoint.named(text, nowhere)
        assert refused.value.status == 2


def test_the_daemon_that_runs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its groups are those that it has; of another file it says nothing."""
    file = directory / "sockd.yaml"

    def status() -> Json:
        return {"pid": os.getpid(), "file": str(file)}

    view = viewpoint.found(file, status)
    assert view is not None
    assert (view.pid, view.account.uid) == (os.getpid(), 0)
    assert view.account.groups == tuple(os.getgroups())
    assert viewpoint.named("root", status) == view
    assert viewpoint.named("root:4242", status).pid is None
    assert viewpoint.found(directory / "more.yaml", status) is None
    assert viewpoint.found(file, nowhere) is None
    assert viewpoint.found(file, dict) is None
    inside = Viewpoint(as_nobody().account, "the user nobody", os.getpid())
    assert len(seen(directory, inside)) == 1


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("LoadState=loaded\nUser=nobody\nDynamicUser=no\nSupplementaryGroups=4242 daemon\n", NOBODY.pw_uid),
        ("LoadState=loaded\nUser=sockd-none\nDynamicUser=yes\nSupplementaryGroups=4242 daemon\n", 61184),
        ("LoadState=not-found\n", None),
        ("LoadState=loaded\nUser=sockd-none\nDynamicUser=no\nSupplementaryGroups=\n", None),
        ("nonsense", None),
    ],
)
def test_a_unit_that_does_not_run(
    shown: str, expected: int | None, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd says as whom it would run; a DynamicUser= that doesn't exist yet is nobody that is known."""
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\necho \"$*\" >{directory}/asked\ncat <<'END'\n{shown}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(viewpoint, "SYSTEMD", directory)
    monkeypatch.setattr(viewpoint, "DEFAULT_FILE", f"{directory}/sockd.yaml")
    for name, unit in (("sockd.yaml", "sockd.service"), ("web.yaml", "sockd@web.service")):
        view = viewpoint.found(directory / name, nowhere)
        assert (directory / "asked").read_text().split()[-1] == unit
        assert (None if view is None else view.account.uid) == expected
        if view is not None:
            assert view.account.groups[-2:] == (4242, 1)
            assert view.words == f"the user that {unit} runs as"
    assert viewpoint.found(Path("/elsewhere/sockd.yaml"), nowhere) is None


def check(directory: Path, *arguments: str) -> Result:
    environment = {"RUNTIME_DIRECTORY": str(directory / "run"), "LOGS_DIRECTORY": str(directory / "log")}
    return CliRunner().invoke(
        main.command, ["check", str(directory / "sockd.yaml"), *arguments], env=environment
    )


def test_the_command(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--as` problems are the result, and the status is that of a start; else they are warnings."""
    refused = check(directory, "--as", "nobody")
    assert isinstance(refused.exception, Refused)
    assert refused.exception.status == 77
    assert "Permission denied" in str(refused.exception)
    monkeypatch.setattr(viewpoint, "found", lambda *_: as_nobody())
    warned = check(directory)
    assert warned.exit_code == 0
    assert f"warning: {directory}/more.yaml: the file can't be read: Permission denied" in warned.output
    assert "unix://@abstract" in warned.output
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    refused = check(directory, "--as", "nobody")
    assert "only root can see" in str(refused.exception)
