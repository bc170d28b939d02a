"""The account of a soak finds whatever was lost, doubled or made up."""

from pathlib import Path

from sockd.protocols.line_log.records import records_for
from tests.soak.books import Account, Ledger, Sending
from tests.soak.loggers import line, read

NOW = 1_795_150_800_123_456_789


def sending(ledger: Ledger, sent: int, *, clean: bool) -> Sending:
    """A connection of tcp's that sent so many lines and was ended."""
    one = ledger.begin("tcp", 7)
    one.sent = sent
    ledger.end(one, clean=clean)
    return one


def faults(ledger: Ledger) -> list[str]:
    return [*ledger.lost(), *ledger.beyond(), *ledger.faults]


def test_all_is_there() -> None:
    """Every line once, in whatever order."""
    ledger = Ledger()
    sending(ledger, 3, clean=True)
    for number in (2, 0, 1):
        ledger.found("tcp", 7, number)
    assert faults(ledger) == []
    assert (ledger.sent, ledger.records, ledger.cut_off) == (3, 3, 0)


def test_a_lost_line() -> None:
    """It is named, whether it is the last one or not."""
    ledger = Ledger()
    sending(ledger, 3, clean=True)
    ledger.found("tcp", 7, 1)
    assert faults(ledger) == ["2 of 3 lines of tcp, connection 7, are not in the log, the first of them 0"]


def test_a_connection_that_was_cut_may_lose_lines() -> None:
    """But no line of it may come twice, nor one that it didn't send."""
    ledger = Ledger()
    sending(ledger, 3, clean=False)
    ledger.found("tcp", 7, 0)
    assert faults(ledger) == []
    assert (ledger.cut_off, ledger.missing({"tcp"}), ledger.missing({"udp"})) == (1, 2, 0)
    ledger.found("tcp", 7, 0)
    ledger.found("tcp", 7, 5)
    ledger.found("udp", 0, 0)
    assert faults(ledger) == [
        "a record of line 5 of tcp.7, which has 3",
        "line 0 of tcp, connection 7, is there 2 times",
        "a record of udp.0.0, which nobody sent",
    ]


def test_records_of_both_formats(tmp_path: Path) -> None:
    """Files are read as line-log writes them; a record that was changed is found."""
    ledger = Ledger()
    sending(ledger, 4, clean=True)
    lines = [line("tcp", 7, number) for number in range(4)]
    file = tmp_path / "app.log"
    for form, at in (("text", 0), ("json", 2)):
        whole = b"".join(each + b"\n" for each in lines[at : at + 2])
        with file.open("ab") as written:
            written.write(records_for(form, "applog").lines(NOW, "127.0.0.1:1", whole))
    read(file, ledger)
    assert faults(ledger) == []
    file.write_bytes(file.read_bytes().replace(b"xxx", b"xx", 1) + b"torn")
    read(file, ledger)
    assert sum("a record of what nobody sent" in fault for fault in ledger.faults) == 2


def test_the_account() -> None:
    """What is not right is a failure, with a bounded number of details."""
    account = Account()
    account.check(True, "all is well", "never shown")
    account.check(False, "lines", *map(str, range(12)))
    assert account.failures == ["lines"]
    assert account.lines[:3] == ["ok    all is well", "LOST  lines", "        0"]
    assert account.lines[-1] == "        and 2 more"
