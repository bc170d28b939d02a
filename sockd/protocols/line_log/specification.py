"""What line-log is to sockd: its options, the factories of its parts.

It imports nothing of Twisted, so that `sockd check` stays quick.
"""

from sockd.protocols.contract import DatagramProtocol, Host, Service, Specification, StreamFactory
from sockd.protocols.line_log.options import LineLogOptions


def _service(host: Host[LineLogOptions]) -> Service:
    from sockd.protocols.line_log.service import LineLogService  # noqa: PLC0415

    return LineLogService(host)


def _stream(host: Host[LineLogOptions]) -> StreamFactory:
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
