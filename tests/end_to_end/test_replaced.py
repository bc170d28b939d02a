"""Between the installation of a new version and `sockd upgrade` the program and its files differ."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.certificates import made
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import JSON_LOG, ROOT, SOCKD
from tests.end_to_end.programs import run

PLAIN = JSON_LOG + "endpoints:\n  plain:\n    listen: tcp://127.0.0.1:0\n    protocol: echo\n"
LIMITED = PLAIN + "    limits: {idle: 1m}\n"
SECURE = PLAIN + (
    "  secure:\n    listen: tls://127.0.0.1:0\n    protocol: echo\n"
    "    tls: {certificate: server.pem, key: server.key}\n"
)


def install(directory: Path) -> None:
    """Put sockd there as an installer does: by files that are new."""
    shutil.rmtree(directory / "sockd", ignore_errors=True)
    shutil.copytree(ROOT / "sockd", directory / "sockd", ignore=shutil.ignore_patterns("__pycache__"))


def test_another_version_is_installed(serve: Serve, directory: Path) -> None:
    """What needs a part of the new version is refused in words, the upgrade works, and then all does."""
    site = directory / "site"
    install(site)
    made("server").write(directory)
    daemon = serve(PLAIN, environment={"PYTHONPATH": str(site)})

    def command(name: str) -> subprocess.CompletedProcess[str]:
        return run([*SOCKD, name, "--control", daemon.runtime / "control.sock"])

    install(site)
    daemon.file.write_text(LIMITED)
    assert command("reload").returncode == 0  # it needs nothing more
    daemon.file.write_text(SECURE)
    refused = command("reload")
    assert (refused.returncode, refused.stderr.partition(",")[0]) == (
        os.EX_TEMPFAIL,
        "another version of sockd was installed after this one was started",
    )
    daemon.file.write_text(LIMITED)
    upgraded = command("upgrade")
    assert upgraded.returncode == 0, upgraded
    daemon.file.write_text(SECURE)
    assert command("reload").returncode == 0
    assert "secure" in command("status").stdout
