"""docs/writing-a-protocol.md, word for word: its text is installed as a package and used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import ROOT, SOCKD, distribution, receive_all
from tests.end_to_end.programs import run

PAGE = ROOT / "docs" / "writing-a-protocol.md"
# A file of the page: its name in backticks ends the line above the fence, with a colon.
FILE = re.compile(r"`([\w./-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# One line in no special format is what RFC 867 asks for; the page's option leaves the time of day.
DAYTIME = re.compile(rb"\d\d:\d\d:\d\d\r\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's package is installed, by pip, as the page says."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, text in FILE.findall(PAGE.read_text()):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert (source / "pyproject.toml").exists()
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
    one = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert one.returncode == 0, one.stderr
    return target


def daytime_file() -> str:
    """The YAML of the page, on a port that is free."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.sub(r"(127\.0\.0\.1):\d+", r"\1:0", text)


def test_the_page_has_about_forty_lines_of_python(site: Path) -> None:
    """The page is short, as it promises; blank lines are not counted."""
    modules = [text for name, text in FILE.findall(PAGE.read_text()) if name.endswith(".py")]
    assert 20 <= sum(1 for text in modules for line in text.splitlines() if line.strip()) <= 50
    assert site.is_dir()


def test_it_serves_the_time(serve: Serve, site: Path) -> None:
    """Stream and datagram both answer."""
    daemon = serve(daytime_file(), environment={"PYTHONPATH": str(site)})
    with daemon.connect("clock") as one:
        assert DAYTIME.fullmatch(receive_all(one))
    with daemon.connect("clock", "udp") as one:
        one.send(b"anything")
        assert DAYTIME.fullmatch(one.recv(1000))
    assert daemon.stop() == 0


def test_it_is_listed(site: Path, directory: Path) -> None:
    """`sockd protocols` names it, its distribution, and the kinds of address it speaks on."""
    one = run([*SOCKD, "protocols"], {"PYTHONPATH": str(site)}, cwd=directory)
    (line,) = [line for line in one.stdout.splitlines() if line.startswith("daytime ")]
    name, kinds, distribution, _ = re.split(r"  +", line)
    assert (name, distribution) == ("daytime", "sockd-daytime 1.0")
    assert kinds == "tcp tls udp unix unixgram systemd"


def test_its_options_are_checked(site: Path, directory: Path) -> None:
    """A key that the page's options model doesn't have is an error with its place."""
    (directory / "wrong.yaml").write_text(
        "endpoints:\n  clock:\n    listen: tcp://127.0.0.1:0\n    protocol: daytime\n"
        "    options: {nonsense: 1}\n"
    )
    one = run([*SOCKD, "check", "-c", "wrong.yaml"], {"PYTHONPATH": str(site)}, cwd=directory)
    assert one.returncode == 78
    assert one.stderr.startswith("wrong.yaml:5:15: endpoints.clock.options")


def test_one_that_fails_to_load_breaks_nobody_else(serve: Serve, directory: Path) -> None:
    """It is an error that names its distribution where it is used, and no matter where it isn't."""
    environment = distribution(directory, "broken", "nowhere_to_be_found:it")
    daemon = serve(
        "endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n", environment=environment
    )
    assert daemon.stop() == 0
    listed = run([*SOCKD, "protocols"], environment, cwd=directory)
    assert "echo" in listed.stdout
    assert "broken" in listed.stdout + listed.stderr
    (directory / "wrong.yaml").write_text(
        "endpoints:\n  one:\n    listen: tcp://127.0.0.1:0\n    protocol: broken\n"
    )
    refused = run([*SOCKD, "check", "-c", "wrong.yaml"], environment, cwd=directory)
    assert refused.returncode == 78
    assert refused.stderr.startswith("wrong.yaml:4:15: endpoints.one.protocol: ")
    assert "broken 1.0" in refused.stderr
    assert "Traceback" not in listed.stderr + refused.stderr
