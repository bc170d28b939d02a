"""`python -m sockd.reference FILE...` writes the reference page (.md) and the JSON Schema (.json)."""

import sys
from pathlib import Path

from sockd.protocols.registry import Registry, of_distribution
from sockd.reference.page import page
from sockd.reference.schema import schema_text

_ours = Registry(of_distribution("sockd"))  # not the others that are installed here
for _name in sys.argv[1:]:
    _file = Path(_name)
    _file.write_text(page(_ours) if _file.suffix == ".md" else schema_text(_ours), encoding="utf-8")
