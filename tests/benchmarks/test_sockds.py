"""The files and the variants of sockd that are measured."""

import pytest
import yaml

from benchmarks.sockds import RAISED, Variant, endpoint, listen, variants


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("tcp:7007", "tcp://127.0.0.1:7007"),
        ("tls:7007", "tls://127.0.0.1:7007"),
        ("udp:7007", "udp://127.0.0.1:7007"),
        ("unix:/run/echo.sock", "unix:///run/echo.sock"),
        ("unixgram:/run/log.sock", "unixgram:///run/log.sock"),
    ],
)
def test_addresses_are_written_as_sockd_has_them(address: str, written: str) -> None:
    """The load generators' short form becomes a URL."""
    assert listen(address) == written


def test_a_file_raises_what_it_is_told_to_and_nothing_else() -> None:
    """Nothing is switched off in it."""
    text = endpoint("chat", "tcp://127.0.0.1:1", "members: 5", RAISED, "enabled: true")
    assert yaml.safe_load(text) == {
        "endpoints": {
            "bench": {
                "listen": "tcp://127.0.0.1:1",
                "protocol": "chat",
                "options": {"members": 5},
                "limits": {"connections": 20000},
                "enabled": True,
            }
        }
    }
    assert yaml.safe_load(endpoint("echo", "unix://a"))["endpoints"]["bench"] == {
        "listen": "unix://a",
        "protocol": "echo",
    }


def test_variants_begin_with_sockd_itself() -> None:
    """The others are named by what differs."""
    first, second, third = variants(["--reactor epoll"], ["/tmp/older"])
    assert first == Variant()
    assert (second.name, second.options) == ("sockd --reactor epoll", ("--reactor", "epoll"))
    assert (third.name, third.checkout) == ("sockd of older", "/tmp/older")
