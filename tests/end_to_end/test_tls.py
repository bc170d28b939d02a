"""TLS with clients that others wrote: OpenSSL's, ncat, socat, Twisted's own, rsyslog; and renewed keys."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Made, made
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, Daemon
from tests.end_to_end.programs import BOUND, Process, run

Program = Callable[..., Process]
FILE = """
daemon: {log: {format: json}}
endpoints:
  echo:
    listen: tls://127.0.0.1:0
    protocol: echo
    tls: {certificate: server.pem, key: server.key}
  lobby:
    listen: tls://127.0.0.1:0
    protocol: chat
    tls:
      certificate: server.pem
      key: server.key
      client_ca: ca.pem
      client_names: [anna.example, berta.example]
  applog:
    listen: tls://127.0.0.1:0
    protocol: line-log
    options: {path: app.log}
    tls: {certificate: server.pem, key: server.key}
"""
VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


@pytest.fixture
def served(serve: Serve, directory: Path) -> Daemon:
    """A daemon whose certificate is for localhost."""
    authority = made("test authority", authority=True)
    made("localhost", "127.0.0.1", issuer="test authority").write(directory)
    (directory / "ca.pem").write_bytes(authority.chain)
    return serve(FILE)


def sockd(daemon: Daemon, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return run([*SOCKD, *words], {"RUNTIME_DIRECTORY": str(daemon.runtime), "SOCKD_CONTROL": None})


def certified(directory: Path, name: str, who: Made) -> tuple[Path, Path]:
    who.write(directory, name)
    return directory / f"{name}.pem", directory / f"{name}.key"


def s_client(program: Program, daemon: Daemon, endpoint: str, *options: str | Path) -> Process:
    """OpenSSL's; what it prints after the handshake is what came."""
    where = f"127.0.0.1:{daemon.port(endpoint, 'tls')}"
    trusting = ("-CAfile", daemon.directory / "ca.pem", "-verify_return_error")
    return program("openssl", "s_client", "-connect", where, *trusting, *options)


@VERSIONS
def test_openssl(version: str, served: Daemon, program: Program) -> None:
    """It believes the certificate; each version is spoken; it ends cleanly on both sides."""
    option = f"-tls{version.replace('.', '_')}"
    client = s_client(program, served, "echo", option, "-verify_hostname", "localhost", "-ign_eof")
    client.expect(rf"TLSv{version}")
    client.expect("Verification: OK|Verify return code: 0")
    client.send("there and back\n")
    client.expect("(?m)^there and back")
    client.signal(signal.SIGTERM)
    client.wait()


def test_openssl_quits(served: Daemon, program: Program) -> None:
    """Its close_notify is a clean end of the connection."""
    client = s_client(program, served, "echo")
    client.expect("Verification: OK")
    client.send("hello\n")
    client.expect("(?m)^hello")
    client.send("Q\n")
    assert client.wait() == 0
    ended = served.event("connection ended", endpoint="echo")
    assert (ended["end"], ended["bytes_in"], ended["bytes_out"]) == ("peer closed", 6, 6)


@pytest.mark.parametrize("option", ["-tls1_1", "-tls1"])
def test_old_versions(option: str, served: Daemon, program: Program) -> None:
    """They are refused, and counted by OpenSSL's reason."""
    client = s_client(program, served, "echo", option, "-cipher", "ALL:@SECLEVEL=0")
    assert client.wait() != 0
    client.expect("alert protocol version")
    told = json.loads(sockd(served, "status", "--json").stdout)
    assert told["endpoints"][0]["listeners"][0]["refused"] == {"TLS: unsupported protocol": 1}


def test_renegotiation_is_refused(served: Daemon, program: Program) -> None:
    """`R` has OpenSSL's client ask for it; the connection ends or goes on, without one."""
    client = s_client(program, served, "echo", "-tls1_2")
    client.expect("Verification: OK")
    client.send("R\n")
    client.expect("no renegotiation|RENEGOTIATING")
    assert client.wait() != 0
    assert b"no renegotiation" in client.output


def test_ncat(served: Daemon, program: Program) -> None:
    """ncat --ssl: what it sends comes back; it takes TLS as it finds it."""
    client = program("ncat", "--ssl", "127.0.0.1", str(served.port("echo", "tls")))
    client.send("through ncat\n")
    client.expect("through ncat")
    client.close_input()
    client.wait()


def test_socat(served: Daemon, program: Program) -> None:
    """It sends all its input, then close_notify, and gets all of it back."""
    where = f"OPENSSL:127.0.0.1:{served.port('echo', 'tls')},cafile={served.directory}/ca.pem"
    client = program("socat", "-t", str(BOUND), "-", where)
    data = b"0123456789abcde\n" * 20_000
    client.send(data)
    client.close_input()
    assert client.wait() == 0
    assert client.output == data
    assert served.event("connection ended", endpoint="echo")["bytes_in"] == len(data)


TWISTED = """
import sys
from twisted.internet import defer, endpoints, protocol, ssl, task

class Client(protocol.Protocol):
    def connectionMade(self):
        self.done, self.got = defer.Deferred(), b""
        self.transport.write(b"x" * 300000)
    def dataReceived(self, data):
        self.got += data
        if len(self.got) == 300000:
            self.transport.loseConnection()
    def connectionLost(self, reason):
        self.done.callback((self.got == b"x" * 300000, reason.type.__name__))

async def main(reactor, port, authority):
    trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(open(authority).read())])
    options = ssl.optionsForClientTLS("localhost", trustRoot=trusted)
    where = endpoints.HostnameEndpoint(reactor, "127.0.0.1", int(port))
    client = await endpoints.wrapClientTLS(options, where).connect(
        protocol.Factory.forProtocol(Client))
    print(*await client.done)

task.react(lambda reactor: defer.ensureDeferred(main(reactor, *sys.argv[1:])))
"""


def test_twisted(served: Daemon) -> None:
    """Its own TLS, as the system's package has it: it needs pyOpenSSL, which we don't."""
    python = "/usr/bin/python3"
    if run([python, "-c", "import OpenSSL, service_identity, twisted.internet.ssl"]).returncode:
        pytest.skip("python3-twisted and python3-openssl are not installed (see .ci/run)")
    done = run([python, "-c", TWISTED, str(served.port("echo", "tls")), served.directory / "ca.pem"])
    assert done.stdout == "True ConnectionDone\n", done.stderr


@pytest.mark.parametrize("driver", ["gtls", "ossl"])
def test_rsyslog(driver: str, served: Daemon, program: Program) -> None:
    """Its forwarding by TLS ends up in the file, whichever library it uses."""
    if not list(Path("/usr/lib").glob(f"**/rsyslog/lmnsd_{driver}.so")):
        pytest.skip(f"rsyslog has no driver {driver} (see .ci/run)")
    directory = served.directory
    source, file = directory / "rsyslog.sock", directory / "rsyslog.conf"
    file.write_text(
        f'global(DefaultNetstreamDriverCAFile="{directory}/ca.pem" workDirectory="{directory}")\n'
        f'module(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{source}" CreatePath="on")\n'
        f'action(type="omfwd" target="127.0.0.1" port="{served.port("applog", "tls")}" protocol="tcp"\n'
        f'  StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="x509/name"\n'
        f'  StreamDriverPermittedPeers="localhost")\n'
    )
    rsyslog = program("rsyslogd", "-n", "-f", file, "-i", directory / "rsyslog.pid")
    while True:
        logger = program("logger", "-u", source, "-t", "forwarded", "--socket-errors=on", "by TLS")
        if logger.wait() == 0:
            break
        assert rsyslog.process.poll() is None, rsyslog.text
    log = served.logs / "app.log"
    tail = program("tail", "-F", "-n", "+1", log)
    tail.expect(r" applog 127\.0\.0\.1:\d+ .*forwarded: by TLS")


# -- clients' certificates


def test_who_comes_by_a_certificate(served: Daemon, program: Program, directory: Path) -> None:
    """Its name is in the chat, in the status and in the log."""
    anna = certified(directory, "anna", made("anna.example", issuer="test authority"))
    client = s_client(program, served, "lobby", "-quiet", "-cert", anna[0], "-key", anna[1])
    client.expect("welcome")
    client.send("/nick anna\n/who\n")
    client.expect(r"-- in lobby: anna \(anna\.example\)")
    listed = sockd(served, "connections")
    assert re.search(r"lobby .* 127\.0\.0\.1:\d+ \(anna, anna\.example\)", listed.stdout)
    client.send("/quit\n")
    client.wait()
    ended = served.event("connection ended", endpoint="lobby")
    assert ended["identity"] == "anna.example"
    assert "(anna, anna.example)" in ended["message"]


def test_who_has_another_certificate(served: Daemon, program: Program, directory: Path) -> None:
    """None, another authority's, another name: each is refused under its reason."""
    stranger = certified(directory, "stranger", made("anna.example", issuer="nobody"))
    carla = certified(directory, "carla", made("carla.example", issuer="test authority"))
    for options in ((), ("-cert", stranger[0], "-key", stranger[1]), ("-cert", carla[0], "-key", carla[1])):
        client = s_client(program, served, "lobby", "-quiet", *options)
        client.wait()
        assert b"welcome" not in client.output
    told = json.loads(sockd(served, "status", "--json").stdout)
    assert told["endpoints"][1]["listeners"][0]["refused"] == {
        "TLS: peer did not return a certificate": 1,
        "TLS: certificate verify failed: unable to get local issuer certificate": 1,
        "TLS: certificate name": 1,
    }


RECHECKED = """
daemon: {log: {format: json}}
endpoints:
  echo:
    listen: tls://127.0.0.1:0
    protocol: echo
    tls: {certificate: server.pem, key: server.key, client_ca: ca.pem, recheck: 100ms}
"""


def test_a_certificate_that_expires(serve: Serve, program: Program, directory: Path) -> None:
    """Its connections are closed by `recheck`, and OpenSSL's client can't resume its sessions afterwards."""
    (directory / "ca.pem").write_bytes(made("test authority", authority=True).chain)
    made("localhost", issuer="test authority").write(directory)
    daemon = serve(RECHECKED)
    brief = made("anna.example", issuer="test authority", days=5 / 86_400)  # five seconds
    shown = certified(directory, "anna", brief)
    for version in ("1_2", "1_3"):
        options: list[str | Path] = [f"-tls{version}", "-cert", shown[0], "-key", shown[1]]
        client = s_client(program, daemon, "echo", *options, "-sess_out", directory / version)
        client.send("hello\n")
        client.expect("(?m)^hello")
    why = "TLS: certificate dates: the client's certificate expired on "
    for number in (1, 2):
        ended = daemon.event("connection ended", number, end="not allowed")
        assert ended["why"].startswith(why)
        assert ended["bytes_in"] == 6
    for number, version in enumerate(("1_2", "1_3"), 3):
        client = s_client(program, daemon, "echo", f"-tls{version}", "-sess_in", directory / version)
        client.expect("Reused, TLSv1")
        client.wait()
        ended = daemon.event("connection ended", number, end="not allowed")
        assert ended["why"].startswith(why)
        assert ended["bytes_in"] == 0


@pytest.mark.parametrize("group", ["ffdhe2048", "ffdhe8192"])
def test_keys_of_finite_fields(group: str, served: Daemon, program: Program) -> None:
    """A client that knows nothing else gets an alert; one that knows elliptic curves, too, is served."""
    client = s_client(program, served, "echo", "-groups", group)
    assert client.wait() != 0
    client.expect("handshake failure")
    assert "FFDHE" in served.event("connection ended", endpoint="echo")["why"]
    client = s_client(program, served, "echo", "-groups", f"X25519:{group}")
    client.send("hello\n")
    client.expect("(?m)^hello")


# -- keys that are renewed


def connected(daemon: Daemon, authority: str) -> ssl.SSLSocket:
    """A client that believes this authority alone."""
    context = ssl.create_default_context(cadata=made(authority, authority=True).chain.decode())
    plain = socket.create_connection(("127.0.0.1", daemon.port("echo", "tls")), BOUND)
    try:
        one = context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise
    one.sendall(b"x")
    assert one.recv(1) == b"x"
    return one


def test_renewed_keys(served: Daemon, directory: Path) -> None:
    """Refused while only half is there; then later connections get the new ones, and others stay."""
    before = connected(served, "test authority")
    new = made("127.0.0.1", "localhost", issuer="new authority")  # with another key, as it has another name
    (directory / "server.pem").write_bytes(new.chain)
    refused = sockd(served, "reload")
    assert refused.returncode == os.EX_CONFIG
    assert "is not the key of the certificate" in refused.stderr
    connected(served, "test authority").close()
    (directory / "server.key").write_bytes(new.key)
    done = sockd(served, "reload")
    assert done.returncode == 0
    assert "tls" in done.stdout
    with pytest.raises(ssl.SSLCertVerificationError):
        connected(served, "test authority")
    connected(served, "new authority").close()
    before.sendall(b"y")
    assert before.recv(1) == b"y"
    before.close()
    told = json.loads(sockd(served, "status", "--json").stdout)["endpoints"][0]
    assert [(each["names"], each["days_left"]) for each in told["certificates"]] == [
        (["localhost", "127.0.0.1"], 29),
    ]
    assert "the certificate for localhost, 127.0.0.1 is valid for 29 days" in sockd(served, "status").stdout


def test_check_of_expired_keys(served: Daemon, directory: Path) -> None:
    """It is reported with its place and date, by sockd check and by a reload; the daemon goes on."""
    made("localhost", issuer="test authority", days=-0.5).write(directory)
    for words in (("check", "-c", served.file), ("reload",)):
        done = sockd(served, *words)
        assert done.returncode == os.EX_CONFIG
        assert re.search(
            r"sockd\.yaml:\d+:\d+: endpoints\.echo\.tls\.certificate: .* it expired on", done.stderr
        )
    connected(served, "test authority").close()


# -- upgrade


def test_an_upgrade_lets_them_finish(served: Daemon) -> None:
    """TLS can't pass to another program: its connections are drained, and its sessions can't be resumed."""
    before = connected(served, "test authority")
    session = before.session
    assert resumed(served, before.context, session)
    upgrading = subprocess.Popen(
        [*SOCKD, "upgrade"],
        env={**os.environ, "RUNTIME_DIRECTORY": str(served.runtime)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with before:
        assert before.recv(1) == b""
    said, _ = upgrading.communicate(timeout=BOUND)
    assert upgrading.returncode == 0, said
    assert not resumed(served, before.context, session)


def resumed(daemon: Daemon, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Whether a connection that is served resumes this session."""
    plain = socket.create_connection(("127.0.0.1", daemon.port("echo", "tls")), BOUND)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as one:
        one.sendall(b"x")
        assert one.recv(1) == b"x"
        return bool(one.session_reused)


# -- a scanner


def test_a_scanner_finds_nothing_weak(served: Daemon, program: Program) -> None:
    """nmap's grades of all ciphers that are spoken, and its warnings."""
    if not Path("/usr/share/nmap/scripts/ssl-enum-ciphers.nse").exists():
        pytest.skip("nmap and its scripts are not installed (see .ci/run)")
    port = served.port("echo", "tls")
    scan = program("nmap", "-Pn", "-n", "--script", "ssl-enum-ciphers", "-p", str(port), "127.0.0.1")
    assert scan.wait() == 0
    assert "least strength: A" in scan.text, scan.text
    assert "warnings" not in scan.text, scan.text
    assert set(re.findall(r"TLSv1\.\d|SSLv3", scan.text)) == {"TLSv1.2", "TLSv1.3"}
