"""What the main file alone may hold, read from values that are typed already."""

from sockd.base.addresses import Address, Kind
from sockd.config.file import Daemon


def test_the_control_socket_in_python() -> None:
    """Python code writes the address itself, and it is written as the file has it."""
    daemon = Daemon(control=Address(Kind.UNIX, path="/run/a"))
    assert daemon.control == Address(Kind.UNIX, path="/run/a")
    assert daemon.model_dump(mode="json")["control"] == "/run/a"
    assert Daemon(control=None).model_dump(mode="json")["control"] == "off"
