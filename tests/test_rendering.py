"""A plan as a file gives the same plan; as a table it shows what is unusual."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sockd.plan import Plan
from sockd.planning import read
from sockd.rendering import render, table
from tests.fake_registry import registry
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
limits = keys(
    connections=st.integers(1, 10**6), idle=or_off, stall=or_off, datagrams=rates, datagrams_per_source=rates
)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A right file: each endpoint listens in both ways, so that every limit has a meaning."""
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
                {"address": f"systemd://{number} no", "socket": draw(systemd_socket)},
            ],
            "protocol": "sample",
            "options": draw(options),
            "limits": draw(limits),
            "restart": {"delay": "10ms", "max_delay": draw(durations)},
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


@given(files())
def test_gives_the_same_plan(tree: dict[str, Any]) -> None:
    """`check --yaml`, read again, is the plan that it was printed from; and it prints the same again."""
    with TemporaryDirectory() as directory:
        plan = read_text(Path(directory), as_yaml(tree))
        text = render(plan)
        again = read_text(Path(directory), text)
        assert again == plan
        assert render(again) == text
        assert all(line.isprintable() for line in table(plan, 0.0).split("\n"))


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
      connections_per_source: off
      connect_rate: off
      handshake: 10s
      first_byte: off
      lifetime: off
      exempt: off
    restart:
      delay: 500ms
      max_delay: 30s
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


def test_what_addresses_share_is_shown_once(tmp_path: Path) -> None:
    """What all sockets of an endpoint have stands in its first line, and what one has in its own."""
    assert table(read_text(tmp_path, SHARED), 0.0) == SHARED_TABLE
