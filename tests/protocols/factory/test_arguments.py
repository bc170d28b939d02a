"""Arguments have the forms of the file, are checked by the callable's annotations, and know their places."""

import re
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sockd.api import Rate
from sockd.plan.show import render
from tests.protocols.factory.hosting import endpoint, module, plan_of, problems, values

TYPED = """
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address
from sockd.api import AddressOption, Duration, Networks, RateOption, Size

class Colour(Enum):
    RED = "red"
    TWO = 2

@dataclass
class Limit:
    count: int
    wait: Duration = 1.0

def make(
    text: str = "", count: int = 0, flag: bool = False, part: float = 0.0, data: bytes = b"",
    file: Path = Path(), time: timedelta = timedelta(), wait: Duration = 0, room: Size = 0,
    rate: RateOption | None = None, networks: Networks = (), address: AddressOption | None = None,
    maybe: Optional[int] = 1, many: list[int] = [], table: dict[str, Duration] = {}, either: int | str = 0,
    word: Literal["a", "b"] = "a", number: Literal[1, 2] = 1, colour: Colour = Colour.RED,
    some: Iterable[int] = (), files: Sequence[Path] = (), pair: tuple[int, str] = (0, ""),
    limit: Limit | None = None, ip: IPv4Address | None = None, free=None, any: Any = None,
):
    return Factory()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("typed")
    module(directory, "hosted_typed", TYPED)
    return directory


def with_arguments(arguments: str, name: str = "hosted_typed:make") -> str:
    return endpoint(f"{{factory: '{name}', path: ., arguments: {arguments}}}")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("text: '1'", "1"),
        ("text: word", "word"),
        ("count: 7", 7),
        ("flag: true", True),
        ("part: 0.5", 0.5),
        ("part: -2", -2.0),
        ("data: abc", b"abc"),
        ("time: 2m", timedelta(minutes=2)),
        ("wait: 10s", 10.0),
        ("room: 1MiB", 2**20),
        ("rate: 5/s", Rate(5, 1.0)),
        ("rate: off", None),
        ("maybe: off", None),
        ("maybe: 3", 3),
        ("many: [1, 2]", [1, 2]),
        ("table: {a: 1s, b: 500ms}", {"a": 1.0, "b": 0.5}),
        ("either: 3", 3),
        ("either: three", "three"),
        ("word: b", "b"),
        ("number: 2", 2),
        ("ip: 127.0.0.1", IPv4Address("127.0.0.1")),
        ("some: [1, 2]", [1, 2]),
        ("pair: [1, a]", (1, "a")),
        ("free: {a: [1, 1.5, x, '2', null, true, 0x10]}", {"a": [1, 1.5, "x", "2", None, True, 16]}),
        ("any: '10'", "10"),
    ],
)
def test_forms(written: str, value: object, directory: Path) -> None:
    """Each annotation reads what the file has for a value of this type, and nothing else becomes of it."""
    (found,) = values(plan_of(directory, with_arguments(f"{{{written}}}"))).values()
    assert (found, type(found)) == (value, type(value))


def test_types_of_the_module_itself(directory: Path) -> None:
    """Enumerations, data classes, networks and addresses are made as pydantic and sockd make them."""
    text = "{colour: 2, limit: {count: 3, wait: 5s}, networks: 192.0.2.0/24, address: 'tcp://127.0.0.1:80'}"
    found = values(plan_of(directory, with_arguments(text)))
    assert found["colour"].name == "TWO"
    assert (found["limit"].count, found["limit"].wait) == (3, 5.0)
    assert [str(one) for one in found["networks"]] == ["192.0.2.0/24"]
    assert (found["address"].host, found["address"].port) == ("127.0.0.1", 80)


def test_relative_paths(directory: Path) -> None:
    """They are beside the file that has them, also where another one includes it."""
    (directory / "more").mkdir()
    (directory / "more" / "web.yaml").write_text(
        endpoint("{factory: 'hosted_typed:make', path: .., arguments: {file: www}}")
    )
    plan = plan_of(directory, "include: more/web.yaml\n")
    assert values(plan) == {"file": directory / "more" / "www"}


def reported(directory: Path, text: str) -> list[tuple[str, str]]:
    """Each problem of the file with one endpoint: the word where it is, and what it says."""
    found = []
    for problem in problems(directory, text):
        _, line, column, *rest = problem.split(":")
        word = text.split("\n")[int(line) - 1][int(column) - 1 :]
        found.append((re.split("[:,}]| [a-z]+:", word)[0], ":".join(rest).split("options")[1]))
    return found


@pytest.mark.parametrize(
    ("written", "place", "problem"),
    [
        ("{count: many}", "many", ".arguments.count: 'many' is not a whole number"),
        ("{wait: 10}", "10", ".arguments.wait: 10 has no unit: write 10s"),
        ("{flag: yes}", "yes", ".arguments.flag: 'yes' is not a boolean: write true"),
        ("{many: [1, x]}", "x]", ".arguments.many[1]: 'x' is not a whole number"),
        ("{some: [1, x]}", "x]", ".arguments.some[1]: 'x' is not a whole number"),
        ("{pair: [1]}", "[1]", ".arguments.pair: number 2 of the list is missing"),
        ("{table: {a: 1}}", "1", ".arguments.table.a: 1 has no unit: write 1s"),
        ("{word: c}", "c", ".arguments.word: 'c' is not known here: there are a and b"),
        ("{part: much}", "much", ".arguments.part: 'much' is not a number"),
        ("{limit: {count: x}}", "x", ".arguments.limit.count: 'x' is not a whole number"),
        ("{cout: 3}", "cout", ".arguments: make takes no argument 'cout', did you mean 'count'?"),
        ("[1]", "[1]", ".arguments: keys and values are expected here: the arguments, not a list"),
    ],
)  # fmt: skip
def test_wrong_values(written: str, place: str, problem: str, directory: Path) -> None:
    """Each mistake has its line and column, and the words that it would have in an option."""
    assert reported(directory, with_arguments(written)) == [(place, problem)]


def test_missing_and_unknown(tmp_path: Path) -> None:
    """What is needed and isn't there, and what is there and isn't taken, are reported together."""
    module(tmp_path, "hosted_needs", "def make(root: Path, *, host: Host[Any]): return Factory()\n")
    text = endpoint("{factory: 'hosted_needs:make', path: ., arguments: {rot: x, host: y}}")
    assert reported(tmp_path, text) == [
        ("arguments", ".arguments: the argument 'root' of make is missing"),
        ("rot", ".arguments: make takes no argument 'rot', did you mean 'root'?"),
        ("host", ".arguments: make gets its 'host' from sockd: leave it out"),
    ]
    bare = endpoint("{factory: 'hosted_needs:make', path: .}")
    assert reported(tmp_path, bare) == [("options", ".arguments: the argument 'root' of make is missing")]


@pytest.mark.parametrize("call", ["", "def __call__(self, x: int) -> None: ..."])
def test_a_factory_takes_none(call: str, tmp_path: Path) -> None:
    """It serves as it is, so that nothing would come of an argument; it may be callable for others."""
    name = f"hosted_ready{len(call)}"
    module(tmp_path, name, f"class Ready(Factory):\n    x = 1\n    {call}\nready = Ready()\n")
    text = endpoint(f"{{factory: '{name}:ready', path: ., arguments: {{x: 1}}}}")
    assert reported(tmp_path, text) == [("x", ".arguments: ready takes no arguments")]
    assert problems(tmp_path, endpoint(f"{{factory: '{name}:ready', path: .}}")) == []


def test_what_no_file_can_have(tmp_path: Path) -> None:
    """An object of a class is no argument for a file, unless the callable has a default for it."""
    module(tmp_path, "hosted_thing", "class Thing: ...\ndef make(thing: Thing = Thing()): return Factory()\n")
    good = endpoint("{factory: 'hosted_thing:make', path: .}")
    assert problems(tmp_path, good) == []
    why = ".arguments.thing: the argument 'thing' of make is a Thing, which no file can have"
    assert reported(tmp_path, good.replace("path: .", "path: ., arguments: {thing: 1}")) == [("1", why)]


def test_annotations_that_only_a_type_checker_resolves(tmp_path: Path) -> None:
    """They are as good as none, and the others count."""
    module(tmp_path, "hosted_late", "def make(one: 'Nowhere' = None, two: 'int' = 0): return Factory()\n")
    file = endpoint("{factory: 'hosted_late:make', path: ., arguments: {one: 1, two: x}}")
    assert reported(tmp_path, file) == [("x", ".arguments.two: 'x' is not a whole number")]


def test_the_plan_as_a_file(directory: Path) -> None:
    """What `sockd check --yaml` prints gives an equal plan, wherever it is read."""
    text = (
        "{file: www, wait: 90s, time: 1m, rate: 5/s, maybe: off, colour: red, free: [1, x], data: d, part: 1}"
    )
    plan = plan_of(directory, with_arguments(text))
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    again = plan_of(elsewhere, render(plan))
    assert values(again) == values(plan)
    assert render(again) == render(plan)


def test_equal_as_long_as_the_file_says_the_same(directory: Path) -> None:
    """A reload has nothing to do, though the values are objects without an equality of their own."""
    text = with_arguments("{limit: {count: 3}, wait: 5s}")
    assert plan_of(directory, text) == plan_of(directory, text)
    assert plan_of(directory, text) != plan_of(directory, text.replace("5s", "6s"))
