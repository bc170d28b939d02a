"""The schema in an editor: the YAML language server of VS Code, Neovim and others completes and explains."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCHEMA = Path(__file__).parents[2] / "config" / "sockd.schema.json"
SERVER = "yaml-language-server"
HEAD = "endpoints:\n  web:\n    listen: tcp://*:7\n    protocol: echo\n"

Json = Any  # what the server says


class Editor:
    """As much of an editor as the Language Server Protocol needs for one file at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = itertools.count(1)
        self.server = subprocess.Popen([SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask("initialize", {"processId": None, "rootUri": directory.as_uri(), "capabilities": {}})
        self.send({"method": "initialized", "params": {}})

    def send(self, message: Json) -> None:
        assert self.server.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.server.stdin.flush()

    def heard(self) -> Json:
        """The next message that isn't a question of the server's, each of which is answered."""
        assert self.server.stdout is not None
        while True:
            length = 0
            while (line := self.server.stdout.readline()) != b"\r\n":
                assert line, "the server has ended"
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            message = json.loads(self.server.stdout.read(length))
            if "method" not in message or "id" not in message:
                return message
            self.send({"id": message["id"], "result": None})

    def ask(self, method: str, parameters: Json) -> Json:
        number = next(self.numbers)
        self.send({"id": number, "method": method, "params": parameters})
        while (message := self.heard()).get("id") != number:
            pass
        return message["result"]

    def open(self, text: str) -> str:
        """Open a file with this text, below the line that names the schema, and return its URI."""
        uri = (self.directory / f"{next(self.numbers)}.yaml").as_uri()
        text = f"# yaml-language-server: $schema={SCHEMA}\n{text}"
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return uri

    def problems(self, text: str) -> list[str]:
        """What the editor underlines."""
        uri = self.open(text)
        while True:
            message = self.heard()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                return [one["message"] for one in message["params"]["diagnostics"]]

    def completions(self, text: str) -> dict[str, str]:
        """What may be completed at the `|` in the text, and what is then inserted."""
        before, _, after = text.partition("|")
        position = {"line": before.count("\n") + 1, "character": len(before.rpartition("\n")[2])}
        where = {"textDocument": {"uri": self.open(before + after)}, "position": position}
        found = self.ask("textDocument/completion", where)
        return {item["label"]: item["textEdit"]["newText"] for item in found["items"]}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """A running language server; without one the tests are skipped."""
    if shutil.which(SERVER) is None:
        pytest.skip(f"{SERVER} is not installed (see .ci/run)")
    editor = Editor(tmp_path_factory.mktemp("editor"))
    yield editor
    editor.server.kill()
    editor.server.communicate()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("limits: {idle: 30}", "Expected here: duration, or off, like 30s."),
        ("limits: {idle: 30x}", "Expected here: duration, or off, like 30s."),
        ("limits: {connect_rate: 10/sec}", "Expected here: rate, or off, like 20/s."),
        ("limits: {connections_per_source: ten}", "Expected here: whole number, 1 to 1000000, or off."),
        ("socket: {receive_buffer: 5}", "Expected here: size, 2KiB to 1GiB, or off, like 64KiB."),
        ("socket: {mode: 999}", "Expected here: file mode, like 0660."),
    ],
)
def test_a_wrong_value_is_explained(editor: Editor, line: str, message: str) -> None:
    """The message says what is expected, and not what one of several forms would need."""
    assert editor.problems(f"{HEAD}    {line}\n") == [message]


def test_keys_are_completed_with_their_colon(editor: Editor) -> None:
    """A key whose value has several forms is completed as any other is."""
    found = editor.completions("endpoints:\n  web:\n    |")
    assert found["listen"].startswith("listen:")
    assert found["required"].startswith("required:")


def test_addresses_are_offered(editor: Editor) -> None:
    """Where an address belongs, the forms of addresses are offered."""
    assert "tcp://127.0.0.1:7007" in editor.completions("endpoints:\n  web:\n    listen: |\n")


def test_options_are_completed_wherever_the_protocol_is(editor: Editor) -> None:
    """Below the protocol and above it those of the protocol are offered; before it is written, all."""
    lines = ["protocol: line-log", "options:\n      |"]
    for ordered in (lines, lines[::-1]):
        found = editor.completions("endpoints:\n  web:\n" + "".join(f"    {line}\n" for line in ordered))
        assert "path" in found
        assert "room" not in found
    found = editor.completions(f"endpoints:\n  web:\n    {lines[1]}\n")
    assert {"path", "room"} <= found.keys()
