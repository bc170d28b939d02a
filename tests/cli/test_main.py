"""The sockd command: what it prints, and the status it leaves with."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sockd import __version__
from sockd.cli import main as cli
from sockd.cli import twistd
from sockd.plan import build
from sockd.protocols import registry as registry_module
from sockd.protocols.registry import Registry
from sockd.upgrade.signals import resume_signals
from tests.fake_registry import points

ENVIRON = {**os.environ, "RUNTIME_DIRECTORY": "/run/sockd", "LOGS_DIRECTORY": "/var/log/sockd"}
RIGHT = "endpoints: {echo: {listen: 'tcp://*:7', protocol: echo}}\n"
WRONG = "endpoints: {echo: {listen: 'tcp://*:70070', protocol: eco}}\n"


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    """Garbage is collected here, whatever a command did to the process that it takes for its own."""
    yield
    gc.enable()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to write, by its name alone, as the user sees it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/sockd")
    monkeypatch.setenv("LOGS_DIRECTORY", "/var/log/sockd")
    monkeypatch.delenv("SOCKD_CONFIG", raising=False)
    return Path("my.yaml")


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli.command, words)


def program(*words: str | bytes, **more: object) -> "subprocess.CompletedProcess[bytes]":
    """The command as a program of its own."""
    arguments = [sys.executable, "-m", "sockd", *words]
    return subprocess.run(arguments, env=ENVIRON, capture_output=True, check=False, timeout=60, **more)  # type: ignore[call-overload, no-any-return]


def test_check(file: Path) -> None:
    """A right file gives the table, whether it is named by the option or by the environment."""
    file.write_text(RIGHT)
    result = invoke("check", "-c", "my.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "endpoint  address    protocol  differs from the default\n"
        "echo      tcp://*:7  echo\n"
        "\n"
        "Relative paths: sockets in /run/sockd, files in /var/log/sockd\n"
    )


def test_the_file_as_an_argument(file: Path) -> None:
    """As with -c; with two files nobody knows which is meant. $SOCKD_CONFIG gives way to both."""
    file.write_text(RIGHT)
    expected = invoke("check", "-c", "my.yaml").stdout
    assert invoke("check", "my.yaml").stdout == expected
    assert (
        CliRunner().invoke(cli.command, ["check", "my.yaml"], env={"SOCKD_CONFIG": "/x"}).stdout == expected
    )
    result = invoke("check", "-c", "other.yaml", "my.yaml")
    assert result.exit_code == 2
    assert "two files are named, 'other.yaml' and 'my.yaml': name one" in result.stderr


def test_check_takes_the_file_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$SOCKD_CONFIG names the file where the option does not."""
    file.write_text(RIGHT)
    monkeypatch.setenv("SOCKD_CONFIG", "my.yaml")
    assert invoke("check").exit_code == 0


def test_check_as_yaml(file: Path) -> None:
    """What is printed is a file that can be read again."""
    file.write_text(RIGHT)
    printed = invoke("check", "-c", "my.yaml", "--yaml").stdout
    file.write_text(printed)
    assert invoke("check", "-c", "my.yaml", "--yaml").stdout == printed


@pytest.mark.parametrize(
    ("text", "place", "lines"),
    [
        ("endpoints: {}\n", "1:1", 0),
        ("include: conf.d/*.yaml\n", "1:1", 0),
        ("endpoints: {a: {enabled: false, listen: 'unix://a', protocol: echo}}\n", "1:1", 4),
    ],
)
def test_nothing_to_run(file: Path, text: str, place: str, lines: int) -> None:
    """A file in which nothing is enabled is not wrong, but warned of where its endpoints should be."""
    file.write_text(text)
    result = invoke("check", "-c", "my.yaml")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == lines
    assert result.stderr == (
        f"my.yaml:{place}: endpoints: warning: no endpoint is enabled: nothing would run\n"
    )


def test_check_of_a_wrong_file(file: Path) -> None:
    """Every problem is a line on stderr, with the file's name as it was given, and the status is 78."""
    file.write_text(WRONG)
    result = program("check", "-c", "my.yaml")
    assert (result.returncode, result.stdout) == (78, b"")
    assert result.stderr.decode() == (
        "my.yaml:1:28: endpoints.echo.listen: port 70070 is out of range (0 to 65535)\n"
        "my.yaml:1:55: endpoints.echo.protocol: unknown protocol 'eco', did you mean 'echo'?\n"
    )


@pytest.mark.parametrize(
    "name", [b"missing.yaml", b".", b"/dev/zero", b"not-utf-8-\xff.yaml", b"line\nbreak.yaml"]
)
def test_files_that_are_none(file: Path, name: bytes) -> None:
    """Whatever is named, the answer is a line and the status 78."""
    result = program("check", "-c", name)
    assert result.returncode == 78
    assert b"Traceback" not in result.stderr


def test_run_hands_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` is the daemon's door with the file that was meant."""
    asked: list[Path] = []
    monkeypatch.setattr(twistd, "run", asked.append)
    assert invoke("run", "-c", "my.yaml").exit_code == 0
    assert invoke("run", "my.yaml").exit_code == 0
    assert invoke("run").exit_code == 0
    assert asked == [file, file, Path("/etc/sockd/sockd.yaml")]
    assert {signal.SIGHUP, signal.SIGUSR1} < signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resume_signals()


def test_version_and_usage() -> None:
    """The version is ours; wrong usage is click's status 2."""
    assert invoke("--version").stdout == f"sockd {__version__}\n"
    assert "check" in invoke("--help").stdout
    assert invoke("check", "--nonsense").exit_code == 2
    assert invoke("nonsense").exit_code == 2


def test_schema() -> None:
    """The schema is printed whole."""
    result = invoke("schema")
    assert result.exit_code == 0
    assert result.stdout.startswith('{\n  "$schema": ')


def test_protocols() -> None:
    """What we ship is listed, each with its kinds of address and where it is from."""
    result = invoke("protocols")
    assert result.exit_code == 0
    rows = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert {"chat", "echo", "factory", "line-log"} <= set(rows)
    assert f"tcp tls udp unix unixgram systemd  sockd {__version__}  " in result.stdout


def test_protocols_that_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be loaded is listed with the reason, beside the rest, and the status says so."""
    monkeypatch.setattr(registry_module, "Registry", lambda: Registry(points))  # type: ignore[arg-type]
    result = invoke("protocols")
    assert result.exit_code == 69
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["datagrams"].split() == [
        "datagrams",
        "udp",
        "unixgram",
        "systemd",
        "sockd-samples",
        "1.2",
        "datagrams",
        "only",
    ]
    assert "unusable" in lines["broken"]
    assert "sockd-broken 1.2 can't be loaded" in lines["broken"]


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """The status that the program ends with, in this process."""
    monkeypatch.setattr(sys, "argv", ["sockd", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def test_main(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The program's statuses: 0, 78 for the file, 74 for what can't be written."""
    file.write_text(RIGHT)
    assert main(monkeypatch, "check", "-c", "my.yaml") == 0
    file.write_text(WRONG)
    assert main(monkeypatch, "check", "-c", "my.yaml") == 78
    assert capsys.readouterr().err.startswith("my.yaml:1:28: ")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "read", fail)
    assert main(monkeypatch, "check", "-c", "my.yaml") == 74
    assert capsys.readouterr().err == "sockd: No space left on device\n"


def test_terminal_that_does_not_know_a_character(file: Path) -> None:
    """A poor terminal shows an escape."""
    file.write_text("endpoints: {a: {listen: 'unix:///run/→', protocol: echo}}", encoding="utf-8")
    environ = {**ENVIRON, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run(
        [sys.executable, "-m", "sockd", "check", "-c", "my.yaml"],
        env=environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"unix:///run/\\u2192" in result.stdout
