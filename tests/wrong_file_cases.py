"""Wrong files as tests keep them: the file, perhaps more files, a rule, and the messages.

`--- a.yaml` begins another file; `--- a.key = key 0644` is one whose contents tests/pem_files.py makes.
"""

import re
from pathlib import Path

from sockd.base.errors import FileWrongError
from sockd.plan.build import read
from sockd.process.directories import Directories
from tests import pem_files
from tests.fake_registry import registry

RULE = "-----\n"
DIRECTORIES = Directories(Path("/run/sockd"), Path("/var/log/sockd"))


def problems(directory: Path, text: str) -> list[str]:
    """The messages about the files of this text, which are written to the directory: the current one."""
    name = "sockd.yaml"
    for part in re.split(r"^(?=--- \S+)", text, flags=re.MULTILINE):
        lines = part.split("\n")
        made: list[str] = []
        if lines and lines[0].startswith("--- "):
            _, name, *made = lines.pop(0).split()
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        if made:
            file.write_bytes(pem_files.FIXTURES[made[1]]())
            file.chmod(int((made[2:] or ["0600"])[0], 8))
        else:
            file.write_text("\n".join(lines), encoding="utf-8", newline="")
    try:
        read(Path("sockd.yaml"), DIRECTORIES, registry())
    except FileWrongError as error:
        return str(error).split("\n")
    return []
