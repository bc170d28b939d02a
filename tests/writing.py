"""JSON values as YAML 1.2 text."""

import json
import re
from typing import Any

from sockd.config.source import INVISIBLE


def as_yaml(value: Any) -> str:
    """JSON is YAML, but for what the file may only hold as an escape; 5.0 is the number 5."""
    text = json.dumps(_whole(value), ensure_ascii=False)
    return re.sub(INVISIBLE, lambda found: f"\\u{ord(found[0]):04x}", text)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
