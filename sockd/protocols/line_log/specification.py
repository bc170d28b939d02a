"""What line-log is to sockd: its options, and how its parts are made."""

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from sockd.config.types import LogPath, Mode, size
from sockd.protocols.contract import DatagramProtocol, Host, Options, Service, Specification
from sockd.sinks.descriptors import descriptor


class LineLogOptions(Options):
    path: LogPath = Field(
        description="The file; relative: in the logs directory. A FIFO will do, and so will `/dev/stdout`."
    )
    format: Literal["text", "json", "raw"] = Field(
        "text",
        description="`text`: a line with time, endpoint and peer before it; `json`: an object a line; "
        "`raw`: the bytes alone, neither escaped nor marked.",
    )
    max_line: Annotated[int, size(64, 16 * 2**20)] = Field(
        64 * 1024, description="The longest line; a longer one is cut into several records."
    )
    mode: Mode = Field(0o640, description="The file's mode, where sockd creates it.")

    def claims(self) -> tuple[str, ...]:
        """The file: two that append to one would each mend the other's last line. Devices may be shared."""
        path = os.path.realpath(self.path)
        shared = path.startswith(("/dev/", "/proc/")) or descriptor(self.path) is not None
        return () if shared else (f"the file {path}",)


def _service(host: Host[LineLogOptions]) -> Service:
    from sockd.protocols.line_log.service import LineLogService  # noqa: PLC0415

    return LineLogService(host)


def _stream(host: Host[LineLogOptions]) -> Any:
    from sockd.protocols.line_log.records import records_for  # noqa: PLC0415
    from sockd.protocols.line_log.stream import LineLogFactory  # noqa: PLC0415

    records = records_for(host.options.format, host.endpoint)
    return LineLogFactory(host.service, host.service.backlog, records, host.options.max_line)


def _datagram(host: Host[LineLogOptions]) -> DatagramProtocol:
    from sockd.protocols.line_log.datagram import LineLogDatagrams  # noqa: PLC0415
    from sockd.protocols.line_log.records import records_for  # noqa: PLC0415

    records = records_for(host.options.format, host.endpoint)
    return LineLogDatagrams(host.service, host.service.backlog, records, host.options.max_line)


specification = Specification(
    summary="each line becomes a record of a file",
    options=LineLogOptions,
    service=_service,
    stream=_stream,
    datagram=_datagram,
)
