"""All parsers that are fuzzed: each takes bytes, and raises only where it has a bug."""

from collections.abc import Callable

from tests.fuzz.parsers import certificates, chats, files, lines, programs, proxies

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "document": files.read_document,
    "plan": files.read_plan,
    "certificate": certificates.inspect_certificate,
    "identity": certificates.identify,
    "address": files.read_address,
    "lines": lines.split_lines,
    "records": lines.write_records,
    "echo": lines.echo_lines,
    "framing": chats.frame,
    "telnet": chats.understand_telnet,
    "first-line": chats.judge,
    "chat": chats.talk,
    "chat-datagrams": chats.datagrams,
    "proof": chats.prove,
    "control": programs.ask,
    "handover": programs.hand_over,
    "proxy": proxies.read_header,
    "inherited": programs.inherit,
}
