"""The journal of a booted machine: what a unit said, now or as soon as it says it."""

import json
from typing import Any

from tests.end_to_end.programs import Process
from tests.systemd.harness import Machine

Entry = dict[str, Any]
FIELDS = "MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT"


class Journal:
    """Every entry since it was made."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        position = machine.run("journalctl", "-n", "0", "--show-cursor", "-q").stdout
        cursor = position.partition("cursor: ")[2].strip()
        self._read = (
            "journalctl",
            "-q",
            "-o",
            "json",
            f"--output-fields={FIELDS}",
            f"--after-cursor={cursor}",
        )
        self._process = Process(machine.command(*self._read, "--follow", "--no-tail"))

    def says(self, unit: str, text: str, count: int = 1) -> int:
        """Waits for the `count`th entry of a unit, or of systemd about it, with this text; its priority."""

        def found(output: bytes) -> Entry | None:
            entries = [one for one in _parsed(output) if _is_of(one, unit) and text in str(one["MESSAGE"])]
            return entries[count - 1] if len(entries) >= count else None

        try:
            entry = self._process.until(found, text)
        except AssertionError:
            told = "\n".join(f"<{one['PRIORITY']}> {one['MESSAGE']}" for one in _parsed(self._process.output))
            raise AssertionError(f"{text!r} did not come from {unit}:\n{told}") from None
        return int(entry["PRIORITY"])

    def messages(self, unit: str, most: int = 7) -> list[str]:
        """What `journalctl -u UNIT -p MOST` would show by now."""
        entries = _parsed(self._process.output)
        return [str(one["MESSAGE"]) for one in entries if _is_of(one, unit) and int(one["PRIORITY"]) <= most]

    def close(self) -> None:
        self._machine.end(self._process.process)
        self._process.end()


def _is_of(entry: Entry, unit: str) -> bool:
    return unit in {entry.get("UNIT"), entry.get("_SYSTEMD_UNIT")}


def _parsed(output: bytes) -> list[Entry]:
    return [json.loads(line) for line in output.split(b"\n")[:-1] if line.startswith(b"{")]
