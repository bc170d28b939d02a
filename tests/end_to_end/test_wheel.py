"""The wheel, built as it is published and installed into a fresh environment outside the checkout."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, Daemon, receive
from tests.end_to_end.programs import BOUND

INSTALLING = 300.0  # seconds that pip may take to fetch what the daemon needs


def call(*arguments: str | Path, cwd: Path) -> str:
    one = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALLING,
        check=False,
    )
    assert one.returncode == 0, one.stdout + one.stderr
    return one.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the source distribution, and of the wheel that was built from it."""
    target = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT, cwd=target)
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with the wheel and what it requires, and nothing else."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "-qq", "--disable-pip-version-check", "install")
    call(*pip, "--require-hashes", "--no-deps", "-r", ROOT / ".ci" / "requirements.txt", cwd=place)
    call(*pip, "--no-deps", wheel, cwd=place)
    call(python, "-m", "pip", "check", cwd=place)
    return python.parent


def test_what_is_in_it(wheel: Path) -> None:
    """Our package, the plugin file alone under twisted/, the licence, what goes to /etc, and no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    modules = [name for name in names if ".dist-info/" not in name and ".data/" not in name]
    assert {name.partition("/")[0] for name in modules} == {"sockd", "twisted"}
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/sockd_plugin.py"]
    assert any(name.endswith("/LICENSE") for name in names)
    assert "sockd/py.typed" in names
    shared = {name.partition("/data/share/sockd/")[2] for name in names if ".data/" in name}
    shipped = [path for directory in ("config", "systemd") for path in (ROOT / directory).iterdir()]
    assert shared == {str(path.relative_to(ROOT)) for path in shipped}


def test_the_source_distribution_can_be_tested(built: Path) -> None:
    """It has every file of the tests, and all that they and the Makefile look at."""
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for directory in ("sockd", "twisted", "config", "docs", "systemd", "tests", "benchmarks", ".ci"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / directory).rglob("*") if is_source(path)}
        assert files
        assert files <= names, sorted(files - names)
    assert {"Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= names


def is_source(path: Path) -> bool:
    """Whether it is a file that nothing made."""
    made = {"__pycache__", ".build", "dropin.cache"}
    return path.is_file() and made.isdisjoint(path.parts)


@pytest.mark.timeout(INSTALLING * 2)
def test_twistd_knows_it(scripts: Path, tmp_path: Path) -> None:
    """`twistd --help` lists sockd, and still lists Twisted's own."""
    commands = [line.split()[:1] for line in call(scripts / "twistd", "--help", cwd=tmp_path).splitlines()]
    assert ["sockd"] in commands
    assert ["web"] in commands


@pytest.mark.timeout(INSTALLING * 2)
def test_it_finds_its_protocols(scripts: Path, tmp_path: Path) -> None:
    """`sockd protocols` lists those that we ship, from the distribution sockd."""
    lines = call(scripts / "sockd", "protocols", cwd=tmp_path).splitlines()
    for name in ("echo", "chat", "line-log", "factory"):
        assert [line for line in lines if line.split()[:1] == [name] and "sockd" in line.split()], lines


@pytest.mark.timeout(INSTALLING * 2)
def test_it_serves(scripts: Path, tmp_path: Path) -> None:
    """One echo through the installed daemon, and a clean stop."""
    file = tmp_path / "sockd.yaml"
    file.write_text(
        "daemon: {log: {format: json}}\nendpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n"
    )
    daemon = Daemon(tmp_path, file, (str(scripts / "twistd"), "-n", "--pidfile="))
    try:
        with daemon.serving().connect("echo") as one:
            one.settimeout(BOUND)
            one.sendall(b"hello")
            assert receive(one, 5) == b"hello"
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text
    finally:
        daemon.end()
