"""The servers that write lines into a file: sockd, rsyslog and syslog-ng, with the same fields."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Server, free_port, installed
from benchmarks.sockds import RAISED, RAISED_DATAGRAMS, Variant, endpoint, listen

# Time received, endpoint, sender, and the line as it came, as sockd's records have them.
RSYSLOG_TEMPLATES = {
    "text": ('type="string" string="%timegenerated:::date-rfc3339% bench %fromhost-ip% %rawmsg%\\n")'),
    "json": """type="list" option.jsonf="on") {
    property(outname="time" name="timegenerated" dateFormat="rfc3339" format="jsonf")
    constant(outname="endpoint" value="bench" format="jsonf")
    property(outname="peer" name="fromhost-ip" format="jsonf")
    property(outname="text" name="rawmsg" format="jsonf")
}""",
}

RSYSLOG_INPUTS = {
    "imptcp": (
        'module(load="imptcp")\ninput(type="imptcp" address="127.0.0.1" port="{where}" SocketBacklog="1024")'
    ),
    "imtcp": (
        'module(load="imtcp" MaxSessions="2000")\ninput(type="imtcp" address="127.0.0.1" port="{where}")'
    ),
    "imudp": (
        'module(load="imudp" BatchSize="128" TimeRequery="8")\n'
        'input(type="imudp" address="127.0.0.1" port="{where}")'
    ),
    "imuxsock": 'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{where}")',
}

# What its manual has for many lines: large batches, one worker, a large buffer, written after each batch.
RSYSLOG = """global(workDirectory="{directory}" net.enableDNS="off")
main_queue(queue.type="FixedArray" queue.size="200000" queue.dequeueBatchSize="4096" queue.workerThreads="1")
{source}
template(name="bench" {template}
action(type="omfile" file="{file}" template="bench" ioBufferSize="256k")
"""

SYSLOG_NG = """@version: 3.38
options {{ use-dns(no); stats-freq(0); log-fifo-size(2000000); flush-lines(1000); time-reap(1); }};
source lines {{ {source} }};
destination file {{ file("{file}" template("{template}\\n")); }};
log {{ source(lines); destination(file); flags(flow-control); }};
"""
SYSLOG_NG_SOURCES = {
    "tcp": (
        "network(ip(127.0.0.1) port({where}) transport(tcp) flags(no-parse) max-connections(2000)"
        " log-iw-size(200000) log-fetch-limit(1000));"
    ),
    "udp": "network(ip(127.0.0.1) port({where}) transport(udp) flags(no-parse));",
    "unixgram": 'unix-dgram("{where}" flags(no-parse));',
}
SYSLOG_NG_TEMPLATES = {
    "text": "${R_ISODATE} bench ${SOURCEIP} ${MSG}",
    "json": "$(format-json time=${R_ISODATE} endpoint=bench peer=${SOURCEIP} text=${MSG})",
}


@dataclass(frozen=True)
class Logger:
    """A server that runs, where it is, and the file that it writes."""

    server: Server
    address: str
    file: Path

    @property
    def name(self) -> str:
        return self.server.name


def address(kind: str, directory: Path) -> str:
    return f"unixgram:{directory / 'log.sock'}" if kind == "unixgram" else f"{kind}:{free_port()}"


def start_sockd(variant: Variant, kind: str, form: str, directory: Path) -> Logger:
    where = address(kind, directory)
    limits = RAISED if kind == "tcp" else RAISED_DATAGRAMS
    file = endpoint("line-log", listen(where), f"path: app.log, format: {form}", limits)
    return _serving(variant.start(directory, file), where, directory / "app.log")


def start_rsyslog(name: str, kind: str, form: str, directory: Path) -> Logger:
    """`name` is rsyslog and its input: `rsyslog imptcp`."""
    program, file, where = installed("rsyslogd"), directory / "app.log", address(kind, directory)
    source = RSYSLOG_INPUTS[name.split()[1]].format(where=where.partition(":")[2])
    configuration = directory / "rsyslog.conf"
    configuration.write_text(
        RSYSLOG.format(directory=directory, source=source, template=RSYSLOG_TEMPLATES[form], file=file)
    )
    command = [program, "-n", "-x", "-i", str(directory / "pid"), "-f", str(configuration)]
    return _serving(Server(name, command, directory), where, file)


def start_syslog_ng(name: str, kind: str, form: str, directory: Path) -> Logger:
    program, file, where = installed("syslog-ng"), directory / "app.log", address(kind, directory)
    source = SYSLOG_NG_SOURCES[kind].format(where=where.partition(":")[2])
    configuration = directory / "syslog-ng.conf"
    configuration.write_text(SYSLOG_NG.format(source=source, template=SYSLOG_NG_TEMPLATES[form], file=file))
    files = [f"--{one}={directory / one}" for one in ("persist-file", "pidfile", "control")]
    command = [program, "-F", "--no-caps", "-f", str(configuration), *files]
    return _serving(Server(name, command, directory), where, file)


Start = Callable[[str, str, str, Path], Logger]
PEERS: dict[str, dict[str, Start]] = {
    "tcp": {"rsyslog imptcp": start_rsyslog, "rsyslog imtcp": start_rsyslog, "syslog-ng": start_syslog_ng},
    "udp": {"rsyslog imudp": start_rsyslog, "syslog-ng": start_syslog_ng},
    "unixgram": {"rsyslog imuxsock": start_rsyslog, "syslog-ng": start_syslog_ng},
}


def _serving(server: Server, where: str, file: Path) -> Logger:
    try:
        server.wait_for(where)
    except BaseException:
        server.end()
        raise
    return Logger(server, where, file)
