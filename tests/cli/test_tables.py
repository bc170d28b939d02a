"""What people see of the daemon's answers, on a terminal and elsewhere."""

import re

import pytest

from sockd.cli import pages, tables
from sockd.cli.pages import Page
from tests.answers import BUSY, NOW, changes, connection, endpoint, listener, source, status

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

PIPED = """\
sockd 0.1.0, pid 4711, up 3m 20s, running
file: /etc/sockd/sockd.yaml
last reload: 1m 0s ago, refused: the file is wrong
last upgrade: 2h 0m ago, ok
leaving: 1 connection of removed endpoints and listeners
control socket: refused: 3 x not allowed, 1 x accepting failed

endpoint  listener              state                     for  connections          in      out
applog    (line-log)            backing off               3m   0 of 1000
applog    tcp://127.0.0.1:5514  backing off               2s   0, 0 total           0B      0B
applog    systemd://log         running, held, suspended  3m   5 datagrams, 0 sent  0B      0B
echo      (echo)                running                   3m   2 of 1000
echo      tcp://127.0.0.1:7007  running                   3m   2, 17 total          1.2KiB  4.8MiB
echo      udp://127.0.0.1:7007  running                   3m   1 datagram, 0 sent   12B     0B

applog: app.log: [red]No space[/red]\\x1b left (1 restart)
applog tcp://127.0.0.1:5514: in use by another program (3 restarts)
echo udp://127.0.0.1:7007: refused: 3 x datagrams_per_source, 1 x datagrams"""

NARROW = """\
endpoint  listener              state        for  connections     in      out
applog    (line-log)            backing off  3m   0 of 1000
          tcp://127.0.0.1:5514  backing off  2s   0, 0 total      0B      0B
          systemd://log         running,     3m   5 datagrams, 0  0B      0B
                                held,             sent
                                suspended
echo      (echo)                running      3m   2 of 1000
          tcp://127.0.0.1:7007  running      3m   2, 17 total     1.2KiB  4.8MiB
          udp://127.0.0.1:7007  running      3m   1 datagram, 0   12B     0B
                                                  sent"""


def terminal(page: Page, width: int) -> str:
    """What a terminal of this width is sent."""
    return pages.drawn(page, width, colours=True)


def uncoloured(text: str) -> list[str]:
    return [line.rstrip() for line in COLOURS.sub("", text).splitlines()]


def test_status() -> None:
    """Piped, each listener is a line with every value whole."""
    assert pages.plain(tables.status(BUSY, NOW)) == PIPED


def test_status_on_a_terminal() -> None:
    """It has the terminal's width; an endpoint's name stands once; what needs attention has a colour."""
    sent = terminal(tables.status(BUSY, NOW), 80)
    lines = uncoloured(sent)
    assert max(map(len, lines)) <= 80
    assert "\n".join(lines[7:17]) == NARROW
    assert lines[18:] == PIPED.splitlines()[-3:]
    for colour, word in ((32, "running"), (31, "backing off"), (33, "suspended")):
        assert re.search(f"\x1b\\[{colour}m{word}", sent)


def test_a_wide_terminal() -> None:
    """Nothing is folded where there is room."""
    lines = uncoloured(terminal(tables.status(BUSY, NOW), 200))
    assert len(lines) == len(PIPED.splitlines())


@pytest.mark.parametrize("width", [40, 80])
def test_long_addresses_are_whole(width: int) -> None:
    """No word is broken, however narrow the terminal is: an address can be copied."""
    long = "unix:///run/user/1000/sockd/with/a/long/path.sock"
    page = tables.status(status(endpoint("echo", listener(long))), NOW)
    assert long in pages.plain(page)
    lines = uncoloured(terminal(page, width))
    assert max(len(line) for line in lines if line.strip() != long) <= width
    (line,) = [line for line in lines if long in line]
    assert line.endswith(long)


@pytest.mark.parametrize(("name", "width"), [("echo", 40), ("a-name-as-long-as-names-may-be" * 2, 80)])
def test_no_room_for_a_table(name: str, width: int) -> None:
    """Nothing is lost: the rows are folded."""
    page = tables.status(status(endpoint(name, listener("tcp://127.0.0.1:7007"))), NOW)
    shown = COLOURS.sub("", terminal(page, width))
    assert max(map(len, shown.splitlines())) <= width
    found = "".join(shown.split())
    for row in page.rows:
        assert "".join("".join(row[1:]).split()) in found


CROWD = status(
    *(endpoint(f"e{number}", listener(f"tcp://*:{number}")) for number in range(20)),
    endpoint("bad", listener("tcp://*:99", state="backing off", why="the address is in use")),
    endpoint("limited", listener("tcp://*:98", causes=["at its limit"]), causes=["at its limit"]),
)


def test_problems_come_first() -> None:
    """What is down, then what is at a limit, then the rest as in the file."""
    names = [row[0] for row in tables.status(CROWD, NOW).rows[::2]]
    assert names == ["bad", "limited", *(f"e{number}" for number in range(20))]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 12), (40, 30), (200, 10), (30, 5)])
def test_a_screen(width: int, height: int) -> None:
    """It is never fuller than it is; what is down is seen, and what isn't shown is said."""
    page = tables.status(CROWD, NOW)
    shown = COLOURS.sub("", pages.fitted(page, width, height, colours=True)).split("\n")
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    if height > 5:
        assert "bad tcp://*:99: the address is in use" in shown
    rows = sum("0 of 1000" in line or "0 total" in line for line in shown)
    assert re.fullmatch(r"not shown: \d+ rows(?: and 1 note)?", shown[-1])
    if width >= 80 and height > 12:
        assert shown[-1] == f"not shown: {44 - rows} rows"


def test_a_screen_with_room() -> None:
    """All of it is there, and nothing is said to be missing."""
    page = tables.status(CROWD, NOW)
    shown = uncoloured(pages.fitted(page, 80, 60, colours=True))
    assert "not shown" not in shown[-1]
    assert sorted(shown) == sorted(uncoloured(terminal(page, 80)))


def test_texts_without_end() -> None:
    """Whatever answers, a terminal isn't flooded."""
    page = tables.status(status(endpoint("x" * 10**6, why="y " * 10**6), file="z" * 10**6), NOW)
    assert len(terminal(page, 80)) < 20_000
    assert len(pages.plain(page)) > 10**6


def test_status_of_nothing() -> None:
    """Without endpoints there is no table."""
    head = ["sockd 0.1.0, pid 4711, up 3m 20s, running", "file: /etc/sockd/sockd.yaml"]
    page = tables.status(status(), NOW)
    assert pages.plain(page).splitlines() == head
    assert uncoloured(terminal(page, 80)) == head


def test_something_that_failed_before() -> None:
    """Restarts are shown even if nothing is wrong any more."""
    page = tables.status(status(endpoint("echo", restarts=2)), NOW)
    assert page.notes == ("echo: it has recovered (2 restarts)",)
    page = tables.status(status(endpoint("echo", restarts=1, recovered_from="the disk was full")), NOW)
    assert page.notes == ("echo: it has recovered from: the disk was full (1 restart)",)


def test_a_note() -> None:
    """What there is to know of a listener stands below the table; an older daemon has none."""
    one, other = listener("tcp://127.0.0.1:80", note="open, but …"), listener("tcp://127.0.0.1:8080", note="")
    page = tables.status(status(endpoint("echo", one, other, listener("tcp://127.0.0.1:8081"))), NOW)
    assert page.notes == ("echo tcp://127.0.0.1:80: open, but …",)


def test_nothing_is_read_as_markup() -> None:
    """Text of others is shown as it is, and drives no terminal."""
    name = "[bold]a[/bold]\x1b[2J\u202e"
    page = tables.connections([connection(1, peer=name, endpoint=name)], NOW)
    shown = "[bold]a[/bold]\\x1b[2J\\u{202e}"
    assert pages.plain(page).splitlines()[1].startswith(f"1   {shown}")
    assert shown in COLOURS.sub("", terminal(page, 200))
    assert "\x1b[2J" not in terminal(page, 200)


def test_connections() -> None:
    """A row for each; sizes in words."""
    found = [connection(1), connection(22, unsent=7000, draining=True, peer="uid=0,pid=7", bytes_in=1)]
    page = tables.connections(found, NOW)
    assert pages.plain(page).splitlines() == [
        "id  endpoint  listener              peer             for  in  out  unsent  state",
        "1   echo      tcp://127.0.0.1:7007  127.0.0.1:40000  3m   0B  0B   0B",
        "22  echo      tcp://127.0.0.1:7007  uid=0,pid=7      3m   1B  0B   6.8KiB  draining",
    ]
    assert "\x1b[33mdraining" in terminal(page, 100)


def test_sources() -> None:
    """A row for each, with the reasons; and what isn't shown, or isn't known any more."""
    found = [
        source(open=1, refused={"access": 2, "connect_rate": 7}),
        source(source="uid=1000 (ann)", connections=0, datagrams=1),
    ]
    page = tables.sources({"sources": found, "known": 2, "forgotten": 0}, NOW)
    assert pages.plain(page).splitlines() == [
        "endpoint  source          connections  in      out  refused                       last",
        "echo      192.0.2.7       3, 1 open    2.0KiB  0B   7 x connect_rate, 2 x access  3m",
        "echo      uid=1000 (ann)  1 datagram   2.0KiB  0B                                 3m",
    ]
    assert not page.notes
    page = tables.sources({"sources": found, "known": 30, "forgotten": 1}, NOW)
    assert page.notes == (
        "2 of 30 sources that are known; --most shows more",
        "1 source that came less were forgotten: what is counted is the least that came",
    )


def test_who_the_peer_is() -> None:
    """What its protocol and its certificate call it stands behind the address."""
    old = connection(2)
    for key in ("identity", "name", "kind", "idle"):
        del old[key]
    found = [connection(1, name="ann", identity="anna.example"), connection(3, name="bob"), old]
    page = tables.connections(found, NOW)
    assert [row[3].removeprefix("127.0.0.1:40000") for row in page.rows] == [
        " (ann, anna.example)", " (bob)", ""
    ]  # fmt: skip


def test_members_by_datagrams() -> None:
    """They are marked; what nothing counts is left out."""
    nothing = {"bytes_in": None, "bytes_out": None, "unsent": None}
    page = tables.connections([connection(1, kind="datagram", name="ann", idle=3.0, **nothing)], NOW)
    assert page.rows[0][4:] == ("3m", "", "", "", "datagrams")


@pytest.mark.parametrize(
    ("names", "days", "told"),
    [
        (["example.org"], 61, "for example.org is valid for 61 days"),
        (["a", "b", "c"], 1, "for a, b, c is valid for 1 day"),
        (["a", "b", "c", "d", "e"], 0, "for a, b, c and 2 more is valid for less than a day"),
        ([], -1, "for no host has expired"),
    ],
)
def test_certificates(names: list[str], days: int, told: str) -> None:
    """Whether it is time to renew them."""
    old = endpoint("old")
    del old["certificates"]
    lobby = endpoint("lobby", certificates=[{"names": names, "days_left": days}])
    assert tables.status(status(lobby, old), NOW).notes == (f"lobby: the certificate {told}",)


def test_changes() -> None:
    """Each sort of change, by name, with what it is about."""
    found = changes(
        added=[{"name": "new", "details": ["tcp://*:1", "udp://*:1"]}],
        removed=[{"name": "old", "details": []}],
        rebound=[{"name": "web", "details": ["+ tcp://*:2\x1b"]}],
        updated=[{"name": "lobby", "details": ["limits.connections: 1000 -> 500"]}],
        unchanged=["x", "y"],
        daemon=["drain: 10s -> 20s"],
    )
    assert tables.changes(found["changes"]) == [
        ("added", "new"),
        ("", "  tcp://*:1"),
        ("", "  udp://*:1"),
        ("removed", "old"),
        ("rebound", "web"),
        ("", "  + tcp://*:2\x1b"),
        ("updated", "lobby"),
        ("", "  limits.connections: 1000 -> 500"),
        ("daemon", "drain: 10s -> 20s"),
    ]
    assert tables.changes(changes(unchanged=["x", "y"])["changes"]) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0KiB"), (1536, "1.5KiB"), (2**20, "1.0MiB"), (2**50, "1024.0TiB")],
)
def test_sizes(number: int, text: str) -> None:
    """About how many bytes."""
    assert tables.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-4, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m 0s"), (3601, "1h 0m"), (90_061, "1d 1h")],
)
def test_ages(seconds: float, text: str) -> None:
    """The two largest units; a clock that was set back is no age."""
    assert tables.age(seconds) == text
