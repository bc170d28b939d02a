"""line-log over streams: the lines of a connection, whole, in order, marked where they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from tests.protocols.line_log.connected import MemorySink, Transport, build, connect, thawed

TIME = "1970-01-01T00:00:00.000000Z"


def test_the_lines_of_a_chunk_are_one_write() -> None:
    """What a chunk completes goes to the sink as one piece, with the connection that may have to pause."""
    sink = MemorySink()
    protocol = connect(sink)
    protocol.dataReceived(b"one\r\ntwo\nthr")
    assert sink.records == [f"{TIME} applog uid=0,pid=7 one\n{TIME} applog uid=0,pid=7 two\n".encode()]
    assert sink.given == [protocol]
    protocol.dataReceived(b"ee\n")
    assert sink.records[1:] == [f"{TIME} applog uid=0,pid=7 three\n".encode()]


def test_nothing_complete_is_no_write() -> None:
    """Half a line costs the sink nothing; a connection that ends cleanly leaves nothing behind."""
    sink = MemorySink()
    protocol = connect(sink)
    protocol.dataReceived(b"half")
    assert sink.records == []
    protocol.dataReceived(b"\n")
    protocol.connectionLost()
    assert len(sink.records) == 1


def test_the_last_line_is_kept() -> None:
    """A connection that ends within a line leaves it marked, and is no longer told to pause."""
    sink = MemorySink()
    protocol = connect(sink)
    assert sink.sources == [protocol]
    protocol.dataReceived(b"unfinished\r")
    protocol.connectionLost()
    assert sink.text == f"{TIME} applog uid=0,pid=7 unfinished\\x0d\\{{no newline}}\n"
    assert sink.sources == []
    assert sink.given == [protocol]


def test_a_long_line_is_cut_and_marked() -> None:
    """Its pieces are records of their own, in order, with the lines around them."""
    sink = MemorySink()
    protocol = connect(sink)
    protocol.dataReceived(b"before\n" + b"x" * 100 + b"\nafter\n")
    texts = [line.split(" ", 3)[3] for line in sink.text.splitlines()]
    assert texts == ["before", "x" * 64 + "\\{cut}", "x" * 36, "after"]


@given(st.binary(max_size=300), st.integers(0, 300), st.sampled_from(["text", "json", "raw"]))
def test_a_new_program_goes_on_where_the_old_one_was(data: bytes, at: int, form: str) -> None:
    """Whatever had come by then, the file is the same."""
    whole, handed_on = MemorySink(), MemorySink()
    one, other = connect(whole, form=form), connect(handed_on, form=form)
    other.dataReceived(data[:at])
    other = thawed(other, handed_on, form=form)
    for protocol, rest in ((one, data), (other, data[at:])):
        protocol.dataReceived(rest)
        protocol.connectionLost()
    assert b"".join(handed_on.records) == b"".join(whole.records)
    assert len(handed_on.sources) == 1  # the old program's, which nobody detaches


def test_a_new_program_with_a_lower_bound() -> None:
    """The part of a line beyond it is cut immediately; the sink learns whom to pause."""
    sink = MemorySink()
    old = connect(sink)
    old.dataReceived(b"x" * 30)
    new = thawed(old, sink, max_line=16)
    assert sink.given == [new]
    assert sink.text.endswith(f" {'x' * 16}\\{{cut}}\n")
    new.dataReceived(b"\n")
    assert sink.text.endswith(f" {'x' * 14}\n")


@given(st.binary(max_size=300), st.lists(st.integers(1, 80)), st.sampled_from(["text", "json", "raw"]))
def test_any_chunking_gives_the_same_file(data: bytes, sizes: list[int], form: str) -> None:
    """What a connection leaves in the file doesn't depend on how its bytes were cut on the way."""
    whole, chunked = MemorySink(), MemorySink()
    one, other = connect(whole, form=form), connect(chunked, form=form)
    one.dataReceived(data)
    rest = data
    for size in sizes:
        other.dataReceived(rest[:size])
        rest = rest[size:]
    other.dataReceived(rest)
    one.connectionLost()
    other.connectionLost()
    assert b"".join(chunked.records) == b"".join(whole.records)


def test_a_verified_name_stands_in_the_records() -> None:
    """Of a connection whose client's certificate proves it."""
    sink = MemorySink()
    protocol = build(sink, 64, "text")
    transport = Transport()
    transport.identity = "web1.example"
    protocol.makeConnection(transport)
    protocol.dataReceived(b"hello\n")
    assert sink.text.endswith(" applog uid=0,pid=7,identity=web1.example hello\n")
