"""Changes in words: each difference as the file has it, for people and for programs."""

import datetime as dt
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from sockd.base.addresses import parse
from sockd.base.errors import Place
from sockd.config.model import Restart
from sockd.plan import build
from sockd.plan.changes import Changes, Kind
from sockd.plan.diff import diff
from sockd.plan.plan import EndpointPlan, Limits, ListenerPlan, LogPlan, Plan
from sockd.plan.words import as_json, details, settings, summary
from sockd.protocols.contract import Options, Specification
from sockd.transports.sockets.options import SocketOptions
from tests.fake_registry import registry
from tests.pem_files import FIXTURES, certificate, key_pem, pem, root, write
from tests.wrong_file_cases import DIRECTORIES

PLACE = Place("f")


def read(directory: Path, text: str) -> Plan:
    file = directory / "sockd.yaml"
    file.write_text(text)
    return build.read(file, DIRECTORIES, registry())


def of(directory: Path, old: str, new: str) -> Changes:
    return diff(read(directory, old), read(directory, new))


def told_of(directory: Path, old: str, new: str) -> list[str]:
    """The kind and the lines of the one endpoint that these texts describe."""
    texts = (
        "endpoints:\n  a:\n" + "".join(f"    {line}\n" for line in text.splitlines()) for text in (old, new)
    )
    (change,) = of(directory, *texts).endpoints
    return [str(change.kind), *details(change)]


ONE = "listen: tcp://127.0.0.1:7\nprotocol: sample\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (ONE, ONE, ["unchanged"]),
        (
            ONE,
            "listen: [udp://*:7, unix://a]\nprotocol: sample",
            ["rebound", "+ udp://*:7", "+ unix:///run/sockd/a", "- tcp://127.0.0.1:7"],
        ),
        (
            ONE,
            ONE + "socket: {backlog: 50, keepalive: {idle: 5s}}",
            ["updated", "socket of tcp://127.0.0.1:7: backlog 1024 -> 50, keepalive.idle 1m -> 5s"],
        ),
        (
            ONE,
            ONE + "socket: {reuse_port: true, backlog: 50}",
            ["rebound", "new socket of tcp://127.0.0.1:7: backlog 1024 -> 50, reuse_port false -> true"],
        ),
        (
            ONE + "socket: {receive_buffer: 64KiB}",
            ONE,
            ["rebound", "new socket of tcp://127.0.0.1:7: receive_buffer 64KiB -> off"],
        ),
        (
            "listen: [tcp://127.0.0.1:7, unix://a]\nprotocol: sample",
            ONE,
            ["updated", "- unix:///run/sockd/a"],
        ),
        (
            ONE + "socket: {keepalive: off}",
            ONE,
            [
                "updated",
                "socket of tcp://127.0.0.1:7: keepalive off -> {idle: 1m, interval: 10s, count: 6}",
            ],
        ),
        (
            ONE + "options: {count: 2}\nlimits: {connections: 500}",
            "listen: tcp://127.0.0.1:7\nprotocol: file\noptions: {path: a.log}",
            [
                "rebound",
                "protocol: sample -> file",
                "options.count: 2 -> unset",
                "options.path: unset -> /var/log/sockd/a.log",
                "limits.connections: 500 -> 1000",
                "limits.idle: 30s -> off",
            ],
        ),
        (ONE, ONE + "limits: {connections: 500}", ["updated", "limits.connections: 1000 -> 500"]),
        (ONE, ONE + "limits: {idle: off}", ["updated", "limits.idle: 30s -> off"]),
        (
            ONE + "options: {word: a, networks: [10.0.0.0/8], nested: {level: 2}}",
            ONE + "options: {word: 'a b', networks: [], nested: {level: 3}, rate: 5/s}",
            [
                "updated",
                'options.word: a -> "a b"',
                "options.rate: off -> 5/s",
                "options.networks: [10.0.0.0/8] -> []",
                "options.nested.level: 2 -> 3",
            ],
        ),
        (
            ONE + "restart: {delay: 1s}\nrequired: true",
            ONE + "restart: {max_delay: 1m}\nrequired: {give_up_after: 5s}",
            [
                "updated",
                "restart.delay: 1s -> 500ms",
                "restart.max_delay: 30s -> 1m",
                "required.give_up_after: 1m -> 5s",
            ],
        ),
        (
            ONE + "limits: {connect_rate: 5/s}\naccess: {deny: 10.0.0.0/8}",
            ONE + "limits: {exempt: 10.1.0.0/16, handshake: 5s}"
            "\naccess: {deny: [10.0.0.0/9, 192.0.2.1], allow: '::1'}",
            [
                "updated",
                "limits.connect_rate: 5/s -> off",
                "limits.handshake: 10s -> 5s",
                "limits.exempt: off -> [10.1.0.0/16]",
                "access.deny: [10.0.0.0/8] -> [10.0.0.0/9, 192.0.2.1/32]",
                'access.allow: off -> ["::1/128"]',
            ],
        ),
        (
            ONE + "access: {deny: 10.0.0.0/8}",
            ONE + "proxy_protocol: {from: 10.0.0.0/8}",
            ["updated", "access.deny: [10.0.0.0/8] -> off", "proxy_protocol.from: off -> [10.0.0.0/8]"],
        ),
        (ONE, ONE + "required: true", ["updated", "required: false -> {give_up_after: 1m}"]),
        (
            "listen: udp://*:7\nprotocol: sample",
            "listen: [udp://*:7, systemd://web]\nprotocol: sample\nlimits: {idle: 1s}",
            ["rebound", "+ systemd://web"],
        ),
    ],
)
def test_words(tmp_path: Path, old: str, new: str, told: list[str]) -> None:
    """Each difference is written as in the file, and in the order of the file."""
    assert told_of(tmp_path, old, new) == told


def test_certificates(tmp_path: Path) -> None:
    """A renewed certificate shows by the day of its end; of its key nothing is said."""
    text = "listen: tls://127.0.0.1:7\nprotocol: sample\ntls: {certificate: a.pem, key: a.key"
    write(tmp_path, "a.key", key_pem("leaf"))
    write(tmp_path, "ca.pem", pem(root()))
    told, plans = [], list[Plan]()
    for year in (2098, 2099, 2099):
        end = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
        write(tmp_path, "a.pem", pem(certificate("leaf", f"{len(plans)}.org", end=end)))
        plans.append(read(tmp_path, "endpoints:\n  a:\n    " + text.replace("\n", "\n    ") + "}\n"))
    for old, new in pairwise(plans):
        (change,) = diff(old, new).endpoints
        told.append([str(change.kind), *details(change)])
    assert told == [
        ["updated", 'tls.certificates: ["a.pem until 2098-01-01"] -> ["a.pem until 2099-01-01"]'],
        ["updated", "tls.certificates: changed"],
    ]
    assert told_of(tmp_path, text + "}", text + ", client_ca: ca.pem, client_names: a.org}") == [
        "updated",
        f"tls.client_ca: off -> {tmp_path}/ca.pem",
        "tls.client_names: off -> [a.org]",
    ]
    assert told_of(tmp_path, ONE, text + "}") == [
        "rebound",
        "+ tls://127.0.0.1:7",
        "- tcp://127.0.0.1:7",
        'tls.min_version: off -> "1.2"',
        'tls.certificates: off -> ["a.pem until 2099-01-01"]',
    ]
    assert told_of(tmp_path, text + "}", text + ", names: 2.org}") == ["unchanged"]


def test_what_systemd_hands_over_begins_to_speak_tls(tmp_path: Path) -> None:
    """It is a change of the listener."""
    write(tmp_path, "a.pem", FIXTURES["chain"]())
    write(tmp_path, "a.key", key_pem("leaf"))
    both = "{}\nprotocol: sample\ntls: {{certificate: a.pem, key: a.key}}"
    old = "listen: ['tls://*:7', systemd://web]"
    new = "listen: ['tls://*:7', {address: systemd://web, tls: true}]"
    assert told_of(tmp_path, both.format(old), both.format(new)) == [
        "rebound",
        "socket of systemd://web: tls false -> true",
    ]


def test_listeners_that_share_a_port(tmp_path: Path) -> None:
    """One more of the same address is one more; other options of one are a change of one of them."""
    shared = "{address: 'tcp://*:7', socket: {reuse_port: true}}"
    slow = "{address: 'tcp://*:7', socket: {reuse_port: true, backlog: 5}}"
    for new, kind, told in (
        (f"[{shared}, {shared}, {shared}]", "rebound", "+ tcp://*:7"),
        (f"[{shared}]", "updated", "- tcp://*:7"),
        (f"[{slow}, {shared}]", "updated", "socket of tcp://*:7: backlog 1024 -> 5"),
    ):
        old = f"listen: [{shared}, {shared}]\nprotocol: sample"
        assert told_of(tmp_path, old, f"listen: {new}\nprotocol: sample") == [kind, told]


def test_as_many_sockets_stay_as_can(tmp_path: Path) -> None:
    """A buffer can't be taken from a socket, so of those that share a port the others go without."""

    def listen(*buffers: str) -> str:
        shared = "address: 'tcp://*:7', socket: {reuse_port: true, receive_buffer: "
        return f"listen: [{', '.join(f'{{{shared}{each}}}}}' for each in buffers)}]\nprotocol: sample"

    assert told_of(tmp_path, listen("off", "64KiB"), listen("128KiB", "off")) == [
        "updated",
        "socket of tcp://*:7: receive_buffer 64KiB -> 128KiB",
    ]
    assert (
        told_of(tmp_path, listen("off", "64KiB", "64KiB"), listen("128KiB", "1MiB", "256KiB"))[0] == "updated"
    )
    assert told_of(tmp_path, listen("off", "64KiB"), listen("off", "off"))[0] == "rebound"


def test_swapped_addresses(tmp_path: Path) -> None:
    """Two endpoints that swap their addresses both show it."""
    text = "endpoints:\n  a: {{listen: {}, protocol: sample}}\n  b: {{listen: {}, protocol: sample}}\n"
    changes = of(tmp_path, text.format("unix://x", "unix://y"), text.format("unix://y", "unix://x"))
    assert as_json(changes)["rebound"] == [
        {"name": "a", "details": ["+ unix:///run/sockd/y", "- unix:///run/sockd/x"]},
        {"name": "b", "details": ["+ unix:///run/sockd/x", "- unix:///run/sockd/y"]},
    ]


def test_enabled_and_disabled(tmp_path: Path) -> None:
    """An endpoint that is enabled or disabled comes or goes; what else was edited of it isn't shown."""
    text = "endpoints: {{a: {{listen: unix://a, protocol: sample, enabled: {}}}}}"
    on, off = text.format("true"), text.format("false")
    for old, new, kind, detail in (
        (on, off, Kind.REMOVED, "enabled: true -> false"),
        (off, on, Kind.ADDED, "enabled: false -> true"),
    ):
        (change,) = of(tmp_path, old, new).endpoints
        assert (change.kind, details(change)) == (kind, (detail, "unix:///run/sockd/a"))
        edited = new.replace("sample", "sample, required: true, restart: {delay: 1s}")
        (change,) = of(tmp_path, old, edited).endpoints
        assert (change.kind, details(change)) == (kind, (detail, "unix:///run/sockd/a"))
    assert of(tmp_path, off, off.replace("//a", "//b")).endpoints == ()


def test_the_daemon(tmp_path: Path) -> None:
    """The daemon's own settings are listed apart from the endpoints."""
    endpoint = "\nendpoints: {a: {listen: unix://a, protocol: sample}}"
    changes = of(
        tmp_path,
        "daemon: {control_group: root}" + endpoint,
        "daemon: {control: off, drain: 20s, log: {level: debug}}" + endpoint,
    )
    assert settings(changes) == [
        "control: /run/sockd/control.sock -> off",
        "control_group: 0 -> off",
        "drain: 10s -> 20s",
        "log.level: info -> debug",
    ]
    assert summary(changes) == "1 unchanged, the daemon's settings changed"


def test_as_a_whole(tmp_path: Path) -> None:
    """The JSON for programs, and the summary for people."""
    text = "endpoints:\n" + "".join(
        f"  {name}: {{listen: 'unix://{name}', protocol: sample}}\n" for name in "abcd"
    )
    new = text.replace("sample", "streams", 1).replace("  b:", "  x:").replace("//c'", "//c', required: true")
    changes = of(tmp_path, text, new)
    assert as_json(changes) == {
        "added": [{"name": "x", "details": ["unix:///run/sockd/b"]}],
        "removed": [{"name": "b", "details": ["unix:///run/sockd/b"]}],
        "rebound": [{"name": "a", "details": ["protocol: sample -> streams", "limits.idle: 30s -> 1m"]}],
        "updated": [{"name": "c", "details": ["required: false -> {give_up_after: 1m}"]}],
        "unchanged": ["d"],
        "daemon": [],
    }
    assert summary(changes) == "1 added, 1 removed, 1 rebound, 1 updated, 1 unchanged"
    assert [change.name for change in changes.endpoints] == ["a", "x", "c", "d", "b"]


def test_nothing_at_all(tmp_path: Path) -> None:
    """Two plans without endpoints are no special case."""
    assert summary(of(tmp_path, "endpoints: {}", "endpoints: {}")) == "no endpoints"


def test_a_service_that_can_not_reload() -> None:
    """Its protocol is started anew for other options, and only for those."""
    spoken = Specification("", OddOptions)
    old, new = an_odd_plan(OddOptions(), spoken), an_odd_plan(OddOptions(words=("a",)), spoken)
    (change,) = diff(old, new, {"a"}).endpoints
    assert (change.kind, details(change)) == (
        Kind.REBOUND,
        (
            "protocol: odd started anew, which can't take options while it runs",
            "options.words: [] -> [a]",
        ),
    )
    assert diff(old, new).endpoints[0].kind is Kind.UPDATED
    assert diff(new, new, {"a"}).none


# -- third parties -----------------------------------------------------------------------------------------


class Odd:
    """A value that can't be shown as text."""


class OddOptions(Options):
    """Options that don't show all that they hold."""

    password: SecretStr = SecretStr("")
    token: str = Field("", alias="bearer-token", exclude=True)
    odd: Any = None
    words: tuple[str, ...] = ()


def an_odd_plan(options: Options, spoken: Specification) -> Plan:
    listener = ListenerPlan(parse("tcp://*:7"), SocketOptions())
    limits = Limits(1, None, None, None, None)
    endpoint = EndpointPlan(
        "a", "odd", spoken, options, limits, Restart(delay=1, max_delay=1), None, (listener,), PLACE
    )
    return Plan(Path("f"), 10.0, LogPlan("info", "auto"), (endpoint,))


def compared(old: Options, new: Options, specification: Specification | None = None) -> tuple[str, ...]:
    spoken = Specification("", OddOptions)
    (change,) = diff(an_odd_plan(old, spoken), an_odd_plan(new, specification or spoken)).endpoints
    return details(change)


def test_secrets_are_not_shown() -> None:
    """Only that they have changed is said."""
    one = OddOptions.model_validate({"password": "a", "bearer-token": "b"})
    other = OddOptions.model_validate({"password": "c", "bearer-token": "d"})
    assert compared(one, other) == ("options.password: changed", "options.bearer-token: changed")


def test_what_has_no_form_as_text() -> None:
    """An option that has no form as text is compared all the same, and hides no other."""
    one, other = OddOptions(odd=Odd()), OddOptions(odd=Odd(), words=("a",))
    assert compared(one, other) == ("options.words: [] -> [a]", "options.odd: changed")


class OtherOptions(OddOptions):
    """Another version of the same, which holds as much."""


def test_options_of_another_type() -> None:
    """They are handed to the protocol, and so there is something to report."""
    assert compared(OddOptions(), OtherOptions()) == ("options: changed",)


def test_long_values() -> None:
    """A line stays short enough to be read."""
    old, new = OddOptions(words=("a" * 1000,)), OddOptions(words=("b" * 1000,))
    assert compared(old, new) == (f"options.words: [{'a' * 96}... -> [{'b' * 96}...",)
    assert compared(old, OddOptions(words=("a" * 1001,))) == ("options.words: changed",)


def test_another_package_of_the_same_name() -> None:
    """Another package's protocol may have the same name."""
    other = Specification("another", OddOptions)
    assert compared(OddOptions(), OddOptions(), other) == ("protocol: odd of another package",)
