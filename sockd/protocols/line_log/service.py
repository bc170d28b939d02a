"""The file of a line-log endpoint, as its options say."""

from twisted.internet.defer import Deferred

from sockd.protocols.contract import Host
from sockd.protocols.line_log.backlog import Backlog
from sockd.protocols.line_log.records import records_for
from sockd.protocols.line_log.specification import LineLogOptions
from sockd.sinks.appender import Appender, Target
from sockd.sinks.file import FileSink


class LineLogService(FileSink):
    """One for all listeners of an endpoint."""

    def __init__(self, host: Host[LineLogOptions]) -> None:
        file = Appender(*_target(host.options, host.endpoint))
        super().__init__(file, endpoint=host.endpoint, reactor=host.reactor, log=host.log, fail=host.fail)
        self.backlog = Backlog(host.reactor)
        self.attach(self.backlog)

    @property
    def expected(self) -> bool:
        return bool(self.backlog)

    def expect_no_more(self) -> None:
        self.backlog.finish()

    def reload(self, options: LineLogOptions) -> Deferred[None]:
        """Go over to another path at once; the format is that of the connections which come from now on."""
        return self.redirect(_target(options, self._endpoint))


def _target(options: LineLogOptions, endpoint: str) -> Target:
    return Target(options.path, options.mode, records_for(options.format, endpoint).mend)
