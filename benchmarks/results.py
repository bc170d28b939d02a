"""The file of results: each work with its day and its machine, so that one of them can be measured anew."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

from benchmarks.programs import HERE
from benchmarks.work import Outcome

FILE = HERE / "results.json"


def read(file: Path = FILE) -> dict[str, Any]:
    """The works that were measured until now; none where there is no file."""
    if not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def put(found: dict[str, Any], work: str, outcome: Outcome, machine: str, rounds: int) -> None:
    """In the place of what was there of this work."""
    found[work] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": machine,
        "rounds": rounds,
        "cases": outcome.cases,
        "notes": outcome.notes,
    }


def write(found: dict[str, Any], file: Path = FILE) -> None:
    file.write_text(json.dumps(_rounded(found), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Four digits are more than any round can promise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
