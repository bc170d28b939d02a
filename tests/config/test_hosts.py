"""Lists of who: one or several, none of them empty, each told of what it is."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sockd.base.errors import Place
from sockd.config.hosts import Accounts, Names, PeerNames, SomeNetworks, SomeNetworksOrOff
from sockd.config.values import Items, Scalar

HERE = Place("f")


def value(written: str | list[str], *, plain: bool = True) -> Any:
    if isinstance(written, str):
        return Scalar(written, HERE, plain=plain)
    items = Items(HERE)
    items += [Scalar(one, HERE, plain=plain) for one in written]
    return items


@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [
        (SomeNetworks, "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
        (SomeNetworksOrOff, ["10.0.0.1", "::1"], (ip_network("10.0.0.1/32"), ip_network("::1/128"))),
        (SomeNetworksOrOff, "off", None),
        (Accounts, ["adm", "5", "adm"], ("adm", 5)),
        (Accounts, "adm", ("adm",)),
        (Accounts, "off", None),
        (
            Names,
            ["Example.ORG", "*.example.org", "2001:DB8::1"],
            ("example.org", "*.example.org", "2001:db8::1"),
        ),
        (Names, "localhost", ("localhost",)),
        (Names, "_dmarc.a-b.example", ("_dmarc.a-b.example",)),
        (Names, "off", None),
        (PeerNames, ["A.example.org", "192.0.2.1"], ("a.example.org", "192.0.2.1")),
        (PeerNames, "spiffe://Example.org/Web", ("spiffe://Example.org/Web",)),
        (PeerNames, ["urn:uuid:5", "sip:a@example.org"], ("urn:uuid:5", "sip:a@example.org")),
        (PeerNames, "2001:db8::1", ("2001:db8::1",)),
        (PeerNames, "fe80::1", ("fe80::1",)),
    ],
)
def test_read(kind: Any, written: str | list[str], read: Any) -> None:
    """One value stands for a list of one; what stands there twice counts once; typed values pass."""
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(value(written)) == read
    assert adapter.validate_python(read) == read
    shown = adapter.dump_python(read)
    again = value(shown) if isinstance(shown, str) else shown
    assert adapter.validate_python(again) == read


NO_NAME = "{!r} is neither a DNS name nor an IP address"


@pytest.mark.parametrize(
    ("kind", "written", "text"),
    [
        (SomeNetworks, [], "at least one network is needed here"),
        (SomeNetworks, ["::1", "a"], "'a' is not a network: write one like 192.0.2.0/24 or 2001:db8::/32"),
        (Accounts, [], "at least one name or number is needed here"),
        (Accounts, ["a b"], "'a b' is neither a name nor a number from 0 to 4294967294"),
        (Names, [], "at least one name is needed here"),
        (Names, "a..b", NO_NAME.format("a..b")),
        (Names, "-a", NO_NAME.format("-a")),
        (Names, "*", NO_NAME.format("*")),
        (Names, "a.*.b", NO_NAME.format("a.*.b")),
        (Names, "*.192.0.2.1.", NO_NAME.format("192.0.2.1.")),
        (Names, "300.1.1.1", NO_NAME.format("300.1.1.1")),
        (Names, "a.", NO_NAME.format("a.")),
        (Names, "x" * 64, "'" + "x" * 57 + "'... is neither a DNS name nor an IP address"),
        (Names, "b\xfccher.example", NO_NAME.format("b\xfccher.example") + ": write xn--bcher-kva.example"),
        (Names, "\xfc..", NO_NAME.format("\xfc..")),
        (Names, "https://a.org", NO_NAME.format("https://a.org")),
        (Names, "5", '5 without quotes is a number in YAML: write "5"'),
        (PeerNames, "*.a.org", "'*.a.org': a peer has one name: write it without a wildcard"),
        (PeerNames, "a.org:443", NO_NAME.format("a.org:443")),
        (PeerNames, "a b", NO_NAME.format("a b")),
        (PeerNames, "urn:a b", NO_NAME.format("urn:a b")),
    ],
)
def test_wrong(kind: Any, written: str | list[str], text: str) -> None:
    """What a list can't hold is told with what it can."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value(written))
    assert str(caught.value.errors()[0]["msg"]) == text
