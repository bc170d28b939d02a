"""The options of a line-log endpoint, as its file has them."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sockd.base.paths import own_descriptor
from sockd.config.types import LogPath, Mode, size
from sockd.protocols.contract import Options


class LineLogOptions(Options):
    """The options of a line-log endpoint."""

    path: LogPath = Field(
        description="The file; a relative path is in the logs directory. It may be a FIFO or `/dev/stdout`."
    )
    format: Literal["text", "json", "raw"] = Field(
        "text",
        description="`text`: the line after its time, endpoint and peer; `json`: an object a line; "
        "`raw`: the bytes alone, neither escaped nor marked.",
    )
    max_line: Annotated[int, size(64, 16 * 2**20)] = Field(
        64 * 1024, description="The longest line; a longer one becomes several records."
    )
    mode: Mode = Field(0o640, description="The file's mode if sockd creates it.")

    def claims(self) -> tuple[str, ...]:
        """The file, unless it is a device: two that append to one would end each other's last lines."""
        path = os.path.realpath(self.path)
        shared = path.startswith(("/dev/", "/proc/")) or own_descriptor(self.path) is not None
        return () if shared else (f"the file {path}",)

    def files(self) -> tuple[Path, ...]:
        """The file, unless it is a descriptor that the daemon has."""
        return () if own_descriptor(self.path) is not None else (self.path,)
