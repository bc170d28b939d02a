"""Words that mean something to a parser, of which inputs are made more quickly than of single bytes."""

from typing import Any

from sockd.protocols.registry import Registry, of_distribution
from sockd.reference.schema import schema

_YAML = [
    b": ",
    b"\n",
    b"\n  ",
    b"\n    ",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b", ",
    b'"',
    b"'",
    b"&a ",
    b"*a",
    b"#",
]
_MORE_YAML = [
    b"!!str ",
    b"<<: *a",
    b"|\n",
    b">-\n",
    b"---\n",
    b"...\n",
    b"%YAML 1.1\n",
    b"? ",
    b"\\ud800",
    b"\xef\xbb\xbf",
]
_ADDRESSES = [
    b"tcp://",
    b"tls://",
    b"udp://",
    b"unix://",
    b"unixgram://",
    b"systemd://",
    b"127.0.0.1",
    b"[::1]",
    b"*",
]
_MORE_ADDRESSES = [
    b":7007",
    b":0",
    b"@name",
    b"/run/x.sock",
    b"[::ffff:10.0.0.1]",
    b"%eth0",
    b"../",
    b"0.0.0.0",
]
_VALUES = [
    b"500ms",
    b"30s",
    b"1h",
    b"64KiB",
    b"100MiB",
    b"20/s",
    b"off",
    b"true",
    b"null",
    b"~",
    b"0660",
    b"10.0.0.0/8",
]
_LINES = [
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\x01\0",
    b"\xff\0",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\xff",
    b"x" * 9,
]
_UNSAFE = [
    b"\x1b[31m",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x7f",
    b"\\",
    b'"',
    b"\\{cut}",
    b"\\x1b",
    b"\t",
]
_CHAT = [
    b"/nick ",
    b"/join ",
    b"/leave",
    b"/who",
    b"/rooms",
    b"/msg ",
    b"/me ",
    b"/help",
    b"/quit",
    b"//",
    b"ear",
    b"one",
]
_TELNET = [
    *(bytes((255, each)) for each in range(236, 256)),
    b"\xff\xfa\x1f\x00\x0a\x00\x0d\xff\xf0",
    b"\xff\xfd\x06",
    b"\r\x00",
    b"\r\n",
    b"\x04",
    b"\x08",
    b"\x15",
]
_FIRST_LINE = [
    b"GET ",
    b"/",
    b" HTTP/1.1",
    b"\r\n",
    b"PASS ",
    b"CAP LS",
    b"\x16\x03\x01",
    b"\x05\x01",
    b"SSH-2.0-",
]
_FLAG = ["\U0001f3f4", *(chr(0xE0000 + ord(each)) for each in "gbeng"), "\U000e007f", "\u0301", "\u200d"]
_PROVE = [b"/prove ", b"-- to join, send /prove ", b" without the dashes", b"-", b"0123456789ab", b"\n", b" "]
_CONTROL = [
    b'"version": 1',
    b'"command": ',
    b'"endpoint": ',
    b'"connections": [1]',
    b'"after": ',
    b'"most": ',
    b"NaN",
]
_COMMANDS = [
    b'"status"',
    b'"kick"',
    b'"connections"',
    b'"drain"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"1e9",
    b'"\\ud800"',
]
_HANDOVER = [
    b'{"sockd handover": 1, "version": "1"}\n',
    b'{"$bytes": "AA=="}',
    b'"$$a": ',
    b'"$',
    b"null",
    b"-1",
]
_PLACES = [
    b'"file": ',
    b'"runtime": ',
    b'"logs": ',
    b'"started": ',
    b'"listeners": ',
    b'"endpoints": ',
    b'"fd": ',
]
_INHERITED = [
    b"LISTEN_PID=",
    b"PID",
    b"LISTEN_FDS=",
    b"LISTEN_FDNAMES=",
    b"\0",
    b":",
    b"sockd-listener-1-2-3",
    b"65536",
]

_PROXY = [
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"\r\n",
    b"192.0.2.1 ",
    b"::1 ",
    b"65535",
    b"0",
    b"\r\n\r\n\x00\r\nQUIT\n",
]
_BINARY = [
    b"\x20\x00\x00\x00",
    b"\x21\x11\x00\x0c",
    b"\x21\x21\x00\x24",
    b"\x21\x31\x00\xd8",
    b"\x03\x00\x04",
    b"\x01\x00\x01",
]

# Object identifiers and tags of DER: names, alternative names, constraints, usages, algorithms.
_CERTIFICATE = [
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x13",
    b"\x06\x03\x55\x1d\x0f",
    b"\x06\x03\x55\x1d\x25",
    b"\x06\x03\x55\x04\x03",
    b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x82\x09a.example",
    b"\x82\x02*.",
    b"\x87\x04\xc0\x00\x02\x01",
    b"\x86\x10https://a.example",
    b"\x0c\x01\x1b",
    b"\x1e\x02\xd8\x00",
    b"\x17\x0d991231235959Z",
    b"\x18\x0f99991231235959Z",
    b"\x30\x00",
    b"\x30\x82\xff\xff",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
]


def _file() -> list[bytes]:
    """Every key of the file, and the words that stand for values."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.update(value.get("properties", {}))
            found.update(each for each in value.get("enum", ()) if isinstance(each, str))
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    registry = Registry(of_distribution("sockd"))
    walk(schema(registry))
    return [word.encode() for word in sorted({*found, *registry.names()})]


def words(target: str) -> list[bytes]:
    """Those of a target; a target without own ones has those of lines."""
    match target:
        case "document":
            return _YAML + _MORE_YAML
        case "plan":
            return _YAML + _VALUES + _ADDRESSES + _MORE_ADDRESSES + _file()
        case "address" | "tests.fuzz.planted:find_me":
            return _ADDRESSES + _MORE_ADDRESSES
        case "chat" | "chat-datagrams":
            return _LINES + _UNSAFE + _CHAT + _PROVE + _TELNET + [each.encode() for each in _FLAG]
        case "telnet":
            return _LINES + _TELNET
        case "first-line":
            return _LINES + _FIRST_LINE + _PROXY
        case "proof":
            return _PROVE
        case "control":
            return _CONTROL + _COMMANDS
        case "handover":
            return _HANDOVER + _PLACES + _CONTROL
        case "inherited":
            return _INHERITED
        case "certificate" | "identity":
            return _CERTIFICATE
        case "proxy":
            return _PROXY + _BINARY
        case _:
            return _LINES + _UNSAFE
