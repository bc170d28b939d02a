"""State on its way from one program to the next, in an upgrade: what `freeze` returns and `thaw` reads."""

from typing import Any

# None, bool, int, float, str, bytes, list, or dict with keys of str, nested to any depth.
# Any: `thaw` reads what another version of sockd, or of a protocol, wrote.
State = Any
Frozen = dict[str, State]  # of one object, by name
