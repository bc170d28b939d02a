"""The shipped units by themselves: what systemd says of them, and that the two don't drift apart."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.service import UNITS

EXPOSURE = 15  # tenths; redis, the best of the others, has 12, most have 94 and more
# What the two units say differently, and nothing else.
OF_ONE = {
    "Unit.Description": ["sockd, network endpoints from one file"],
    "Unit.Requires": ["sockd-runtime@sockd.service"],
    "Unit.After": ["sockd-runtime@sockd.service", "network.target"],
    "Service.ExecStart": ["/opt/sockd/bin/sockd run -c /etc/sockd/sockd.yaml"],
    "Service.ExecReload": ["/opt/sockd/bin/sockd reload -c /etc/sockd/sockd.yaml --pid $MAINPID"],
    "Service.User": ["sockd"],
    "Service.Environment": ["FDSTORE=4096", "RUNTIME_DIRECTORY=/run/sockd"],
    "Service.ReadWritePaths": ["/run/sockd"],
    "Service.LogsDirectory": ["sockd"],
}
OF_SEVERAL = {
    "Unit.Description": ["sockd, network endpoints from one file (%i)"],
    "Unit.Requires": ["sockd-runtime@sockd-%i.service"],
    "Unit.After": ["sockd-runtime@sockd-%i.service", "network.target"],
    "Service.ExecStart": ["/opt/sockd/bin/sockd run -c /etc/sockd/%i.yaml"],
    "Service.ExecReload": ["/opt/sockd/bin/sockd reload -c /etc/sockd/%i.yaml --pid $MAINPID"],
    "Service.User": ["sockd-%i"],
    "Service.Environment": ["FDSTORE=4096", "RUNTIME_DIRECTORY=/run/sockd-%i"],
    "Service.ReadWritePaths": ["/run/sockd-%i"],
    "Service.LogsDirectory": ["sockd-%i"],
}


def settings(name: str) -> dict[str, list[str]]:
    """A unit's settings, `Section.Key`, each with its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / name).read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def analyze(*arguments: str | Path, units: Path) -> subprocess.CompletedProcess[str]:
    """systemd-analyze's verdict where `units` has all units of the system, or the test is skipped."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (see .ci/run)")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": str(units)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_targets(directory: Path, units: str) -> None:
    """The targets that these units name, and those that systemd adds, with nothing in them.

    Real ones pull in the units of other packages, and what is wrong with those would be said too.
    """
    for name in {*re.findall(r"[\w-]+\.target", units), "basic.target", "shutdown.target", "sysinit.target"}:
        (directory / name).write_text("[Unit]\n")


def test_the_two_differ_in_names_only() -> None:
    """sockd@.service is sockd.service but for the names of the instance."""
    one, several = settings("sockd.service"), settings("sockd@.service")
    assert {key: one[key] for key in OF_ONE} == OF_ONE
    assert {key: several[key] for key in OF_SEVERAL} == OF_SEVERAL
    assert one | OF_ONE == several | OF_ONE
    assert list(one) == list(several)


def test_the_number_of_stored_sockets_is_told() -> None:
    """systemd before 254 doesn't say how many it keeps: the environment says it."""
    one = settings("sockd.service")
    assert f"FDSTORE={one['Service.FileDescriptorStoreMax'][0]}" in one["Service.Environment"]


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("sockd.service", "sockd.service"),
        ("sockd@.service", "sockd@web.service"),
        ("sockd-web.socket", "sockd-web.socket"),
    ],
)
def test_systemd_knows_every_key(unit: str, name: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing, wherever /opt/sockd is and whatever else is installed."""
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = path.read_text().replace("/opt/sockd/bin/sockd", "/bin/true")
        (tmp_path / (name if path.name == unit else path.name)).write_text(text)
        write_targets(tmp_path, text)
    one = analyze("verify", "--man=no", "--recursive-errors=one", tmp_path / name, units=tmp_path)
    assert (one.returncode, one.stdout + one.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["sockd.service", "sockd@.service"])
def test_exposure(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze security` rates it 1.5 or below."""
    copy = tmp_path / unit.replace("@", "@web")
    copy.write_text((UNITS / unit).read_text())
    one = analyze(
        "security", "--offline=yes", f"--threshold={EXPOSURE}", "--json=short", copy, units=tmp_path
    )
    bad = [row["json_field"] for row in json.loads(one.stdout) if row.get("exposure")]
    assert one.returncode == 0, bad
