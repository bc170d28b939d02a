"""Plans: defaults, what is inherited, what is compared, and what is refused."""

import os
from pathlib import Path

import pytest

from sockd.base import addresses
from sockd.base.addresses import Address, Kind, parse
from sockd.base.errors import FileWrongError, Place, SockdError
from sockd.base.units import Rate
from sockd.config.model import Restart
from sockd.plan import build, claims
from sockd.plan.plan import EndpointPlan, Limits, LogPlan, Plan
from sockd.process.directories import Directories
from sockd.transports.sockets.options import Keepalive, SocketOptions
from tests.fake_registry import SampleOptions, registry
from tests.wrong_file_cases import DIRECTORIES

KEEPALIVE = Keepalive(60, 10, 6)


def read(directory: Path, text: str) -> Plan:
    file = directory / "sockd.yaml"
    file.write_text(text)
    return build.read(file, DIRECTORIES, registry())


def endpoint(directory: Path, text: str, before: str = "") -> EndpointPlan:
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return read(directory, f"{before}\nendpoints:\n  a:\n{lines}").endpoints[0]


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(FileWrongError) as caught:
        read(directory, text)
    return [
        f"{problem.place.line}:{problem.place.column} {problem.text}" for problem in caught.value.problems
    ]


@pytest.mark.usefixtures("gone_directory")
def test_a_file_above_a_directory_that_is_gone(tmp_path: Path) -> None:
    """The kernel still finds it by `..`, but nothing can be relative to it."""
    (tmp_path / "sockd.yaml").write_text("endpoints: {}\n")
    with pytest.raises(
        SockdError, match=r"^\.\./sockd.yaml is relative to the current directory, which can't"
    ):
        build.read(Path("../sockd.yaml"), DIRECTORIES, registry())


def test_everything_by_default(tmp_path: Path) -> None:
    """An endpoint of two lines gets all defaults."""
    plan = read(tmp_path, "endpoints:\n  a:\n    listen: tcp://127.0.0.1:7\n    protocol: sample\n")
    assert plan.file == tmp_path / "sockd.yaml"
    assert plan.drain == 10.0
    assert plan.log == LogPlan("info", "auto")
    assert plan.control == parse("unix:///run/sockd/control.sock")
    assert (plan.control_user, plan.control_group) == (None, None)
    (only,) = plan.endpoints
    assert only.name == "a"
    assert only.options == SampleOptions()
    assert only.limits == Limits(1000, 30.0, 30.0, None, None)
    assert only.restart == Restart(delay=0.5, max_delay=30.0)
    assert only.give_up_after is None
    assert only.place == Place(str(plan.file), 2, 3)
    (listener,) = only.listeners
    assert listener.address == parse("tcp://127.0.0.1:7")
    assert listener.socket == SocketOptions(1024, KEEPALIVE, True, False, None, 0o660, None, None)


def test_nearest_wins_key_by_key(tmp_path: Path) -> None:
    """Each key comes from the nearest that has it: the address, the endpoint, the file's defaults, ours."""
    only = endpoint(
        tmp_path,
        "listen: {address: 'tcp://*:7', socket: {backlog: 1}}\n"
        "protocol: sample\n"
        "socket: {backlog: 2, nodelay: false, keepalive: {count: 2}}\n"
        "limits: {idle: off}\n"
        "restart: {delay: 1s}\n",
        "defaults: {socket: {nodelay: true, reuse_port: true, keepalive: {idle: 5s, count: 3}},"
        " limits: {idle: 5m, stall: 1m}, restart: {max_delay: 2s}}",
    )
    assert only.listeners[0].socket == SocketOptions(
        1, Keepalive(5, 10, 2), False, True, None, 0o660, None, None
    )
    assert only.limits == Limits(1000, None, 60.0, None, None)
    assert only.restart == Restart(delay=1.0, max_delay=2.0)


def test_what_is_inherited_and_does_not_apply_is_passed_over(tmp_path: Path) -> None:
    """Options of streams mean nothing for datagrams: a change of them is no change there."""
    defaults = "defaults: {limits: {idle: 5m, connections: 5}, socket: {mode: 0600, backlog: 5, user: 0}}"
    text = "listen: udp://*:7\nprotocol: datagrams\n"
    assert endpoint(tmp_path, text, defaults) == endpoint(tmp_path, text)


def test_protocols_bring_their_limits(tmp_path: Path) -> None:
    """The protocol's own limits hold where the file says nothing."""
    text = "listen: udp://*:7\nprotocol: datagrams\n"
    assert endpoint(tmp_path, text).limits.datagrams == Rate(100, 1.0)
    assert endpoint(tmp_path, text + "limits: {datagrams: off}").limits.datagrams is None
    assert endpoint(tmp_path, text + "limits: {datagrams: 5/m}").limits.datagrams == Rate(5, 60.0)


def test_required(tmp_path: Path) -> None:
    """`true` gives up after a minute."""
    text = "listen: unix://a\nprotocol: sample\nrequired: "
    assert endpoint(tmp_path, text + "true").give_up_after == 60.0
    assert endpoint(tmp_path, text + "false").give_up_after is None
    assert endpoint(tmp_path, text + "{give_up_after: 5s}").give_up_after == 5.0


def test_paths_and_accounts_are_resolved(tmp_path: Path) -> None:
    """A plan doesn't depend on the current directory, nor on names that may change."""
    only = endpoint(
        tmp_path,
        "listen: unix://a.sock\nprotocol: file\noptions: {path: a.log}\nsocket: {user: root, group: 0}",
    )
    assert only.listeners[0].address == parse("unix:///run/sockd/a.sock")
    assert (only.listeners[0].socket.user, only.listeners[0].socket.group) == (0, 0)
    assert only.options.claims() == ("/var/log/sockd/a.log",)


def test_who_drops_privileges_leaves_its_sockets_to_whom_it_becomes(tmp_path: Path) -> None:
    """Unix sockets are that user's and group's, unless the file names others; nothing else changes."""
    plan = read(
        tmp_path,
        """
endpoints:
  ours: {listen: [unix://a.sock, 'tcp://127.0.0.1:7'], protocol: sample}
  theirs: {listen: unix://b.sock, protocol: sample, socket: {user: 7, group: 8}}
""",
    )
    ours, theirs = plan.run_as(70, 80).endpoints
    assert [(each.socket.user, each.socket.group) for each in ours.listeners] == [(70, 80), (None, None)]
    assert [(each.socket.user, each.socket.group) for each in theirs.listeners] == [(7, 8)]
    assert (plan.run_as(70, 80).control_user, plan.run_as(70, 80).control_group) == (70, None)
    assert plan.run_as(None, None) == plan


@pytest.mark.parametrize(
    ("control", "address"),
    [
        ("a.sock", "unix:///run/sockd/a.sock"),
        ("./a", "unix:///run/sockd/a"),
        ("/a", "unix:///a"),
        ('"@a"', "unix://@a"),
        ("on", "unix:///run/sockd/on"),
    ],
)
def test_control_socket(tmp_path: Path, control: str, address: str) -> None:
    """A path as that of any Unix socket, and a group by name or number."""
    endpoints = "endpoints: {a: {listen: 'tcp://*:7', protocol: sample}}"
    plan = read(tmp_path, f"daemon: {{control: {control}, control_group: root}}\n{endpoints}")
    assert (plan.control, plan.control_group) == (parse(address), 0)


def test_no_control_socket(tmp_path: Path) -> None:
    """Without one, its usual path is free for others."""
    text = "daemon: {control: off}\nendpoints: {a: {listen: 'unix://control.sock', protocol: sample}}"
    assert read(tmp_path, text).control is None


def test_the_usual_control_socket_does_not_fit(tmp_path: Path) -> None:
    """The runtime directory may be the reason, but the file can name a shorter path."""
    file = tmp_path / "sockd.yaml"
    file.write_text("endpoints: {a: {listen: 'tcp://*:7', protocol: sample}}")
    long = Directories(Path("/" + "x" * 100), Path("/"))
    with pytest.raises(FileWrongError, match=r"sockd\.yaml:1:1: daemon\.control: the path .* bytes long"):
        build.read(file, long, registry())
    file.write_text("")
    with pytest.raises(FileWrongError, match=r"sockd\.yaml:1:1: the file is empty"):
        build.read(file, long, registry())


def test_sockets_that_systemd_hands_over(tmp_path: Path) -> None:
    """Any protocol may be spoken there; options for opening a socket don't apply."""
    before = (
        "defaults: {limits: {idle: 5m, datagrams: 5/s},"
        " socket: {backlog: 5, mode: 0600, user: 0, reuse_port: true, receive_buffer: 1MB, nodelay: false}}"
    )
    for protocol in ("sample", "streams", "datagrams"):
        only = endpoint(tmp_path, f"listen: systemd://web\nprotocol: {protocol}\n", before)
        assert only.listeners[0].address == Address(Kind.SYSTEMD, path="web")
        usual = SocketOptions(1024, KEEPALIVE, False, False, None, 0o660, None, None)
        assert only.listeners[0].socket == usual
        assert (only.limits.idle, only.limits.datagrams) == (300.0, Rate(5, 1.0))


def test_unknown_account_in_the_defaults(tmp_path: Path) -> None:
    """A name in the defaults is reported once, at its place, and only if a Unix socket needs it."""
    text = "defaults: {socket: {user: zzqqxx}}\nendpoints:\n"
    assert problems(tmp_path, text + "  a: {listen: ['unix://a', 'unix://b'], protocol: sample}\n") == [
        "1:27 there is no user 'zzqqxx' on this machine"
    ]
    assert read(tmp_path, text + "  a: {listen: 'unix://@a', protocol: sample}\n")


def test_unknown_account_of_a_listener(tmp_path: Path) -> None:
    """A name in a listen item is reported at its place."""
    listen = "[{address: 'unix://a', socket: {group: zzqqxx}}]"
    text = f"endpoints:\n  a:\n    listen: {listen}\n    protocol: sample\n"
    assert problems(tmp_path, text) == ["3:52 there is no group 'zzqqxx' on this machine"]


def test_disabled_endpoints_are_kept_apart(tmp_path: Path) -> None:
    """They are in the plan, and take neither addresses nor files from those that run."""
    text = "endpoints:\n" + "".join(
        f"  {name}: {{enabled: {enabled}, listen: 'unix://a', protocol: file, options: {{path: a.log}}}}\n"
        for name, enabled in (("a", "true"), ("b", "false"), ("c", "false"))
    )
    plan = read(tmp_path, text)
    assert [one.name for one in plan.endpoints] == ["a"]
    assert [one.name for one in plan.disabled] == ["b", "c"]


def test_equal_wherever_it_was_written(tmp_path: Path) -> None:
    """Places and comments are no difference; a value is."""
    text = "endpoints:\n  a: {listen: 'tcp://*:7', protocol: sample}\n"
    assert read(tmp_path, text) == read(tmp_path, "# moved\n\n" + text)
    assert read(tmp_path, text) != read(tmp_path, text.replace("7", "8"))


def test_symbolic_links_are_seen_through(tmp_path: Path) -> None:
    """Two names for one socket file are one address."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    text = "endpoints:\n" + "".join(
        f"  {name}: {{listen: 'unix://{tmp_path}/{where}/a.sock', protocol: sample}}\n"
        for name, where in (("a", "real"), ("b", "link"))
    )
    assert len(problems(tmp_path, text)) == 1


def test_shared_ports(tmp_path: Path) -> None:
    """Any number of listeners may share a port if all of them set reuse_port."""
    text = "endpoints:\n" + "".join(
        f"  {name}: {{listen: 'tcp://*:7', protocol: sample, socket: {{reuse_port: true}}}}\n"
        for name in "abc"
    )
    assert len(read(tmp_path, text).endpoints) == 3


def test_a_thousand_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is compared only with the few that it may overlap."""
    compared = []

    def overlap(one: Address, other: Address) -> bool:
        compared.append((one, other))
        return addresses.overlap(one, other)

    monkeypatch.setattr(claims, "overlap", overlap)
    text = "endpoints:\n  all: {listen: 'tcp://[::]:7', protocol: sample}\n" + "".join(
        f"  e{number}: {{listen: 'tcp://127.1.{number >> 8}.{number & 255}:7', protocol: sample}}\n"
        for number in range(1000)
    )
    assert len(read(tmp_path, text).endpoints) == 1001
    assert len(compared) == 1000  # each with the one that has all addresses, of the other family though


def test_our_own_protocols_are_found(tmp_path: Path) -> None:
    """Without a registry of its own, a plan uses the protocols that are installed."""
    file = tmp_path / "sockd.yaml"
    file.write_text("endpoints: {a: {listen: 'tcp://*:7', protocol: echo}}")
    assert build.read(file, DIRECTORIES).endpoints[0].specification.summary
