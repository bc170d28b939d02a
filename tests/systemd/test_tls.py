"""TLS as a service has it: keys that a group may read, renewed as the page about TLS says, in the sandbox."""

import re
import ssl
from collections.abc import Iterator

import pytest

from tests.certificates import Made, made
from tests.systemd.harness import ROOT, Machine
from tests.systemd.service import Service

FILE = """
endpoints:
  echo:
    listen: tls://127.0.0.1:7071
    protocol: echo
    tls: {certificate: lobby.pem, key: lobby.key, client_ca: ca.pem, client_names: anna.example}
"""
PLAIN = "endpoints: {echo: {listen: 'tcp://127.0.0.1:7071', protocol: echo}}\n"
TLS = "tcp://127.0.0.1:7071"
HOOK = re.compile(r"( +)#!/bin/sh\n(?:\1.*\n)+")


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """The unit, with the group that the page has."""
    machine.run("groupadd", "--force", "--system", "sockd-tls")
    one = Service(machine)
    one.drop_in("[Service]\nSupplementaryGroups=sockd-tls\n")
    machine.write("/etc/sockd/ca.pem", made("authority", authority=True).chain.decode())
    try:
        yield one
    finally:
        one.close()


def shown(service: Service, trusted: Made, who: str = "anna.example") -> bool:
    """Whether the daemon shows this certificate, and echoes to whom this one names."""
    context = ssl.create_default_context(cadata=trusted.chain.decode())
    made(who, issuer="authority").load_into(context)
    plain = service.connect(TLS)
    try:
        with context.wrap_socket(plain, server_hostname="localhost") as one:
            one.sendall(b"x")
            return one.recv(1) == b"x"
    except (ssl.SSLError, ConnectionError):
        return False
    finally:
        plain.close()


def renewed(machine: Machine, certificate: Made) -> None:
    """certbot has renewed it: the page's hook is run, by root."""
    machine.write("/etc/letsencrypt/live/lobby/fullchain.pem", certificate.chain.decode())
    machine.write("/etc/letsencrypt/live/lobby/privkey.pem", certificate.key.decode(), 0o600)
    found = HOOK.search((ROOT / "docs" / "tls.md").read_text())
    assert found is not None
    machine.write("/srv/hook", found[0].replace(found[1], ""), 0o755)
    machine.run("/srv/hook", environment={"RENEWED_LINEAGE": "/etc/letsencrypt/live/lobby"})


def test_keys_are_renewed(service: Service, machine: Machine) -> None:
    """From the first start on; a key that the daemon may not read is refused, and the old one goes on."""
    old, new = made("localhost"), made("127.0.0.1", "localhost")
    machine.write("/etc/sockd/lobby.pem", old.chain.decode())
    machine.write("/etc/sockd/lobby.key", old.key.decode(), 0o640)
    machine.run("chgrp", "sockd-tls", "/etc/sockd/lobby.key")
    service.start(FILE)
    assert shown(service, old)
    assert not shown(service, old, "berta.example")
    renewed(machine, new)
    assert shown(service, new)
    assert not shown(service, old)
    machine.run("chgrp", "root", "/etc/sockd/lobby.key")
    assert machine.systemctl("reload", service.unit, check=False).returncode != 0
    service.says("lobby.key can't be read: Permission denied")
    assert shown(service, new)


def test_the_order_of_the_page(machine: Machine) -> None:
    """A group counts from a restart on; before it, `sockd check` warns root of what the daemon can't read."""
    machine.run("groupadd", "--force", "--system", "sockd-tls")
    service = Service(machine)
    try:
        service.start(PLAIN)
        one = made("localhost")
        machine.write("/etc/sockd/ca.pem", made("authority", authority=True).chain.decode())
        machine.write("/etc/sockd/lobby.pem", one.chain.decode())
        machine.write("/etc/sockd/lobby.key", one.key.decode(), 0o640)
        machine.run("chgrp", "sockd-tls", "/etc/sockd/lobby.key")
        service.write(FILE)
        told = service.sockd("check").stderr
        assert (
            "/etc/sockd/lobby.key can't be read: Permission denied (as the user sockd, with the groups"
            in told
        )
        refused = service.sockd("check", "--as", "sockd", check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (77, 1)
        service.sockd("check", "--as", "sockd:sockd-tls")
        service.drop_in("[Service]\nSupplementaryGroups=sockd-tls\n")
        service.write(PLAIN)
        machine.systemctl("restart", service.unit)
        service.write(FILE)
        assert not service.sockd("check").stderr
        service.sockd("check", "--as", "sockd")
        machine.systemctl("reload", service.unit)
        assert shown(service, one)
    finally:
        service.close()
