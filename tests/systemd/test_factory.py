"""Modules of a factory endpoint under the shipped unit: where it finds them, and where it says how it can."""

import pytest

from tests.systemd.service import Service

ADDRESS = "tcp://127.0.0.1:7010"
MODULE = "from twisted.protocols.wire import Echo\n"


def file(path: str) -> str:
    return (
        f"endpoints:\n  hosted:\n    listen: {ADDRESS}\n    protocol: factory\n"
        f"    options: {{factory: 'hosted:Echo', path: {path}}}\n"
    )


def test_below_srv(service: Service) -> None:
    """What every user may read is served as it is, also after an upgrade to changed code."""
    service.machine.write("/srv/site/hosted.py", MODULE)
    service.start(file("/srv/site"))
    assert service.echoes(ADDRESS)
    service.machine.write("/srv/site/hosted.py", f"# changed\n{MODULE}")
    assert "sockd upgrade takes it" in service.sockd("reload").stderr
    service.sockd("upgrade")
    assert service.echoes(ADDRESS)


@pytest.mark.parametrize("path", ["/home/ann/site", "/tmp/site"])
def test_what_the_unit_hides(path: str, service: Service) -> None:
    """The message names what in a drop-in shows it, and with that it is served."""
    service.machine.write(f"{path}/hosted.py", MODULE)
    service.write(file(path))
    checked = service.sockd("check")
    assert "warning: " in checked.stderr
    assert f"{path} can't be read; the unit hides {path[: path.index('/', 1)]}: put " in checked.stderr
    assert service.machine.systemctl("start", "sockd", check=False).returncode != 0
    assert service.show("ExecMainStatus") == "78"
    service.says(f"; the unit hides {'/'.join(path.split('/')[:2])}: put ")
    (line,) = [one for one in service.logged(3) if "the unit hides" in one]
    settings = line.partition(": put ")[2].partition(" below [Service]")[0].split(" and ")
    service.drop_in("\n".join(["[Service]", *settings, ""]))
    service.start()
    assert service.echoes(ADDRESS)
