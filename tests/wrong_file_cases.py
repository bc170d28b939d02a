"""Wrong files as tests keep them: the file, perhaps more files, a rule, and the messages."""

import re
from pathlib import Path

from sockd.errors import FileWrongError
from sockd.plan import Directories
from sockd.planning import read
from tests.fake_registry import registry

RULE = "-----\n"
DIRECTORIES = Directories(Path("/run/sockd"), Path("/var/log/sockd"))


def problems(directory: Path, text: str) -> list[str]:
    """The messages about the files of this text, which are written to the directory: the current one."""
    name = "sockd.yaml"
    for part in re.split(r"^(?=--- \S+\n)", text, flags=re.MULTILINE):
        lines = part.split("\n")
        if lines and lines[0].startswith("--- "):
            name = lines.pop(0).split()[1]
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines), encoding="utf-8", newline="")
    try:
        read(Path("sockd.yaml"), DIRECTORIES, registry())
    except FileWrongError as error:
        return str(error).split("\n")
    return []
