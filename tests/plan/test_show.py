"""A plan printed as a file gives the same plan; as a table it shows what differs from the defaults."""

import operator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sockd.base.text import UNSAFE
from sockd.plan.build import read
from sockd.plan.plan import Plan
from sockd.plan.show import render, table
from tests.fake_registry import registry
from tests.pem_files import FIXTURES, certificate, key_pem, pem, write
from tests.writing import as_yaml
from tests.wrong_file_cases import DIRECTORIES

durations = st.builds("{}{}".format, st.integers(1, 500), st.sampled_from(["s", "m"]))
or_off = durations | st.just("off")
rates = st.builds("{}/{}".format, st.integers(1, 10**6), st.sampled_from("smh")) | st.just("off")
sizes = st.builds("{}{}".format, st.integers(4, 999), st.sampled_from(["KiB", "kB", "MB"]))
words = st.text(st.characters(codec="utf-8"), max_size=8)


def keys(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


keepalive = st.just("off") | keys(idle=durations, interval=durations, count=st.integers(1, 127))
inet_socket = keys(
    backlog=st.integers(1, 65535), nodelay=st.booleans(), keepalive=keepalive, receive_buffer=sizes
)
unix_socket = keys(mode=st.sampled_from(["0600", "0666", "0777"]), user=st.just("root"), group=st.just(0))
systemd_socket = keys(nodelay=st.booleans(), keepalive=keepalive)
options = keys(
    word=words,
    count=st.integers(0, 10),
    flag=st.booleans(),
    wait=durations,
    room=sizes,
    rate=rates,
    mode=st.sampled_from(["0600", "0640"]),
    networks=st.lists(st.sampled_from(["10.0.0.0/8", "::/0"]), max_size=2),
    nested=keys(level=st.integers()),
)
networks = st.lists(st.sampled_from(["10.0.0.0/8", "::/0", "192.0.2.1"]), min_size=1, max_size=2)
accounts = st.lists(st.sampled_from(["root", 5]), min_size=1, max_size=2)
limits = keys(
    connections=st.integers(1, 10**6),
    idle=or_off,
    stall=or_off,
    unsent=st.sampled_from(["4KiB", "1GiB"]),
    datagrams=rates,
    datagrams_per_source=rates,
    connections_per_source=st.integers(1, 10**6) | st.just("off"),
    connect_rate=rates,
    handshake=durations,
    first_byte=or_off,
    lifetime=or_off,
    exempt=networks | st.just("off"),
)
access = keys(allow=networks | st.just("off"), deny=networks, users=accounts, groups=accounts)
pairs = [{"certificate": "a.pem", "key": "a.key"}, {"certificate": "b.pem", "key": "b.key"}]
tls = st.builds(
    operator.or_,
    st.sampled_from([pairs[0], {"certificates": pairs}, {"certificates": pairs[:1]}]),
    keys(
        names=st.just(["example.org"]),
        client_ca=st.just("ca.pem"),
        min_version=st.sampled_from(["1.2", "1.3"]),
    )
    | st.just({"client_ca": "ca.pem", "client_names": "a.example.org"})
    | or_off.map(lambda often: {"client_ca": "ca.pem", "recheck": often}),
)

FILES = {
    "a.pem": FIXTURES["chain"],
    "a.key": FIXTURES["key"],
    "b.pem": lambda: pem(certificate("b", "b.example.org", "192.0.2.1")),
    "b.key": lambda: key_pem("b"),
    "ca.pem": FIXTURES["authorities"],
}


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A correct file; its endpoints have streams and datagrams, so that every limit means something."""
    endpoints = {}
    for number, name in enumerate(
        draw(st.lists(st.from_regex("[a-z][a-z0-9._-]{0,9}", fullmatch=True), unique=True))
    ):
        endpoints[name] = {
            "enabled": draw(st.booleans()),
            "listen": [
                {"address": f"tcp://127.0.0.1:{number + 1}", "socket": draw(inet_socket)},
                {"address": f"unixgram://{number}.sock", "socket": draw(unix_socket)},
                f"unix://@{number}",
                {
                    "address": f"systemd://{number} no",
                    "socket": draw(systemd_socket),
                    "tls": draw(st.booleans()),
                },
                f"tls://127.0.0.2:{number + 1}",
            ],
            "tls": draw(tls),
            "access": draw(access),
            "protocol": "sample",
            "options": draw(options),
            "limits": draw(limits),
            "restart": {"delay": "10ms", "max_delay": draw(durations)},
            "log": {"connections": draw(st.sampled_from(["all", "refused", "off", "1/7"]))},
            **draw(keys(proxy_protocol=st.just({"from": "10.0.0.0/8"}))),
            "required": draw(st.booleans() | keys(give_up_after=durations)),
        }
    control = st.sampled_from([{}, {"control": "off"}, {"control": "@a"}, {"control": "a b"}]) | keys(
        control=st.just("/run/control.sock"), control_group=st.just(0)
    )
    log = keys(level=st.just("debug"), format=st.just("json"))
    return {
        "daemon": draw(control) | draw(keys(drain=durations, log=log)),
        "defaults": draw(keys(limits=limits, socket=inet_socket)),
        "endpoints": endpoints,
    }


def read_text(directory: Path, text: str) -> Plan:
    file = directory / "sockd.yaml"
    file.write_text(text, encoding="utf-8")
    return read(file, DIRECTORIES, registry())


@settings(max_examples=40)  # each is written to a file and read again
@given(files())
def test_gives_the_same_plan(tree: dict[str, Any]) -> None:
    """`check --yaml`, read again, is the plan that it was printed from; and it prints the same again."""
    with TemporaryDirectory() as directory, TemporaryDirectory() as elsewhere:
        for name, data in FILES.items():
            write(Path(directory), name, data())
        plan = read_text(Path(directory), as_yaml(tree))
        text = render(plan)
        again = read_text(Path(elsewhere), text)
        assert again == plan
        assert render(again) == text
        assert all(line.isprintable() for line in table(plan, 0.0).split("\n"))
        assert not UNSAFE.search(text.replace("\n", ""))


def test_what_drives_a_terminal_is_escaped(tmp_path: Path) -> None:
    """C1 controls and changes of direction are values that a file may have: they are printed as escapes."""
    word = '"\\u009b2J\\u202e\\x7fö漢"'
    text = f"endpoints: {{a: {{listen: 'tcp://*:1', protocol: sample, options: {{word: {word}}}}}}}\n"
    plan = read_text(tmp_path, text)
    printed = render(plan)
    assert "ö漢" in printed
    assert not UNSAFE.search(printed.replace("\n", ""))
    assert not UNSAFE.search(table(plan, 0.0).replace("\n", ""))
    assert read_text(tmp_path, printed) == plan


FILE = """
daemon: {drain: 5s}
defaults: {limits: {stall: 1m}}
endpoints:
  lobby:
    listen: [tcp://127.0.0.1:7070, {address: unix://lobby.sock, socket: {mode: 0666}}]
    protocol: sample
    options: {word: "42"}
    limits: {idle: off}
    required: true
  other:
    enabled: false
    listen: udp://*:7
    protocol: datagrams
"""

RENDERED = """\
daemon:
  control: /run/sockd/control.sock
  drain: 5s
  log:
    level: info
    format: auto
    to: auto
endpoints:
  lobby:
    listen:
      - tcp://127.0.0.1:7070
      - address: unix:///run/sockd/lobby.sock
        socket:
          mode: "0666"
    protocol: sample
    options:
      word: "42"
    limits:
      connections: 1000
      idle: off
      stall: 1m
      unsent: 16MiB
      connections_per_source: off
      connect_rate: off
      handshake: 10s
      first_byte: off
      lifetime: off
      exempt: off
    restart:
      delay: 500ms
      max_delay: 30s
    log:
      connections: all
    required:
      give_up_after: 1m
  other:
    enabled: false
    listen:
      - udp://*:7
    protocol: datagrams
    limits:
      datagrams: 100/s
      datagrams_per_source: off
      exempt: off
    restart:
      delay: 500ms
      max_delay: 30s
    log:
      connections: all
"""

SHARED = """
defaults: {socket: {backlog: 50, mode: 0600, keepalive: {idle: 5s}}}
endpoints:
  lobby:
    listen:
      - tcp://127.0.0.1:7070
      - address: tcp://127.0.0.1:7071
        socket: {nodelay: false, keepalive: off}
      - unix://lobby.sock
      - address: unix://more.sock
        socket: {backlog: 50}
      - udp://127.0.0.1:7070
    protocol: sample
"""

SHARED_TABLE = """\
endpoint  address                       protocol  differs from the default
lobby     tcp://127.0.0.1:7070          sample    backlog: 50, mode: "0600", keepalive: {idle: 5s}
          tcp://127.0.0.1:7071                    keepalive: off, nodelay: false
          unix:///run/sockd/lobby.sock
          unix:///run/sockd/more.sock
          udp://127.0.0.1:7070"""

TABLE = """\
endpoint  address                       protocol   differs from the default
lobby     tcp://127.0.0.1:7070          sample     word: "42", idle: off, stall: 1m, required: 1m
          unix:///run/sockd/lobby.sock             mode: "0666"
other     udp://*:7                     datagrams  disabled"""


def test_shape(tmp_path: Path) -> None:
    """Every name is resolved, nothing is inherited, and what can't apply is left out."""
    plan = read_text(tmp_path, FILE)
    assert render(plan) == RENDERED
    assert table(plan, 0.0) == TABLE


GUARDED = """
endpoints:
  lobby:
    listen: [tls://127.0.0.1:7070, {address: systemd://web, tls: true}, unix://a]
    protocol: sample
    tls:
      certificates: [{certificate: a.pem, key: a.key}, {certificate: b.pem, key: b.key}]
      client_ca: ca.pem
    access: {allow: [10.0.0.0/8], users: root}
    proxy_protocol: {from: 192.0.2.1}
    limits: {handshake: 5s}
"""

GUARDED_TABLE = """\
endpoint  address               protocol  differs from the default
lobby     tls://127.0.0.1:7070  sample    handshake: 5s, tls.client_ca: {ca}, access.allow: [10.0.0.0/8], \
access.users: [0], proxy_protocol.from: [192.0.2.1/32], \
certificate: [example.org, "*.example.org", 192.0.2.1] (2 days left), \
certificate: [b.example.org, 192.0.2.1] (2 days left)
          systemd://web                   tls: true
          unix:///run/sockd/a"""


def test_certificates_and_guards(tmp_path: Path) -> None:
    """The table says what certificates are good for, and how long; of keys only the paths are printed."""
    for name, data in FILES.items():
        write(tmp_path, name, data())
    plan = read_text(tmp_path, GUARDED)
    assert plan.endpoints[0].tls
    now = plan.endpoints[0].tls.certificates[0].not_after - 2.5 * 86400
    assert table(plan, now) == GUARDED_TABLE.format(ca=tmp_path / "ca.pem")
    assert "(1 day left)" in table(plan, now + 86400)
    assert "PRIVATE" not in render(plan)
    write(tmp_path, "a.pem", pem(certificate("leaf")))
    assert f"certificate: {tmp_path}/a.pem (" in table(read_text(tmp_path, GUARDED), now)


def test_what_addresses_share_is_shown_once(tmp_path: Path) -> None:
    """What all sockets of an endpoint have is in its first line, and what one has in its own."""
    assert table(read_text(tmp_path, SHARED), 0.0) == SHARED_TABLE
