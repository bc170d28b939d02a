"""Who is taken for a client of another protocol, by its first line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.protocols.chat.strangers import first_line

STRANGERS = {
    "HTTP": [
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\nPOST /a HTTP/1.0\n",
        b"HEAD http://host:7070/ HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT example.net:443 HTTP/1.1\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"PROPFIND /dav HTTP/1.1\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"BREW /pot HTTP/1.1\r\n",
        b"get / http/1.1\r\n",
        b"POST /a space HTTP/1.1\r\n",
        b"GET /\r\n",  # HTTP/0.9
        b"GET /" + b"x" * 2000,
        b"PROPPATCH /" + b"x" * 2000 + b" HTTP/1.1\r\n",
        b"get http://host/" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\n",
    ],
    "IRC": [
        b"PASS secret\r\n",
        b"NICK boss\r\n",
        b"USER boss 0 * :The Boss\r\n",
        b"CAP LS 302\r\n",
        b"CAP LS\n",
        b"cap req :sasl\r\n",
        b"WEBIRC password gateway host 192.0.2.1\r\n",
        b"AUTHENTICATE PLAIN\r\n",
        b"PASS " + b"x" * 2000,
    ],
    "RTSP": [b"OPTIONS rtsp://host/stream RTSP/1.0\r\n"],
    "SIP": [b"REGISTER sip:host SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n"],
    "SMTP": [b"EHLO client.example\r\n", b"HELO client\r\n"],
    "SSH": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "the PROXY protocol": [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
    ],
    "TLS": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    "SOCKS": [b"\x05\x01\x00", b"\x05\x02\x00\x02"],
    "RDP": [b"\x03\x00\x00\x13\x0e\xe0\x00\x00"],
    "Redis": [b"*2\r\n$4\r\nAUTH\r\n"],
    "a binary protocol": [b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"JRMI\x00\x02K", b"\x10\x0c\x00\x04MQTT"],
}
MEMBERS = [
    b"hello\n",
    b"/nick boss\n",
    b"GET lost\n",
    b"POST mortem at five\n",
    b"OPTIONS are open\n",
    b"DELETE /tmp/foo please\n",
    b"I love HTTP/1.1\n",
    b"pass the salt\n",
    b"nick is away\n",
    b"user error\n",
    b"PASSING by\n",
    b"CAPS LOCK\n",
    b"CAP on\n",
    b"helo all\n",
    b"* waves *\n",
    b"PROXY or no proxy\n",
    b"https://example.net/ is down\n",
    "Grüße\n".encode(),
    b"\x1b[A\n",
    b"\xfe\n",
    b"x" * 2000,
    b"words /and " + b"more words " * 200,
]


@pytest.mark.parametrize(
    ("protocol", "data"), [(name, each) for name in STRANGERS for each in STRANGERS[name]]
)
def test_strangers(protocol: str, data: bytes) -> None:
    """What only a client of another protocol begins with is that protocol's, however little more has come."""
    settled, stranger = first_line(data)
    assert settled
    assert stranger is not None
    assert stranger.protocol == protocol
    assert first_line(data + b"anything\r\n/nick boss\n") == (settled, stranger)


@pytest.mark.parametrize("data", MEMBERS)
def test_members(data: bytes) -> None:
    """What people say first is said."""
    assert first_line(data) == (True, None)


@pytest.mark.parametrize("data", [b"", b"\r\n\n", b"GET / HTTP/1.1", b"PASS", b"hello", b"\x16\x03", b"\x05"])
def test_undecided(data: bytes) -> None:
    """A line that hasn't ended may become anything."""
    assert first_line(data) == (False, None)


def test_answers() -> None:
    """A browser gets a page of the length that it is told; IRC, SMTP and Redis clients get their errors."""
    answers = {name: first_line(STRANGERS[name][0])[1] for name in STRANGERS}
    for name, version in (("HTTP", "HTTP/1.1"), ("RTSP", "RTSP/1.0"), ("SIP", "SIP/2.0")):
        stranger = answers[name]
        assert stranger is not None
        head, _, page = stranger.answer.partition(b"\r\n\r\n")
        assert head.startswith(f"{version} 400 Bad Request\r\n".encode())
        assert f"\r\nContent-Length: {len(page)}\r\n".encode() in head
        assert b"chat" in page
    for name, form in (
        ("IRC", rb"ERROR :[^\n]+\r\n"),
        ("SMTP", rb"554 [^\n]+\r\n"),
        ("Redis", rb"-ERR .+\r\n"),
    ):
        stranger = answers[name]
        assert stranger is not None
        assert re.fullmatch(form, stranger.answer)


@given(st.sampled_from([each for name in STRANGERS for each in STRANGERS[name]] + MEMBERS), st.data())
def test_any_chunking(data: bytes, drawn: st.DataObject) -> None:
    """The verdict on a beginning, once it is settled, is the verdict on the whole."""
    whole = first_line(data)
    settled, stranger = first_line(data[: drawn.draw(st.integers(0, len(data)))])
    if settled:
        assert (stranger is None) == (whole[1] is None)
