"""The main file and its includes."""

import os
from pathlib import Path

import pytest

from sockd.base.errors import Place
from sockd.config import load as load_module
from sockd.config.form import merge
from sockd.config.load import load
from sockd.config.model import Endpoint, Keepalive, Limits, Required, Socket
from sockd.config.values import Mapping

ENDPOINT = "{{listen: 'tcp://127.0.0.1:{}', protocol: echo}}"


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory / "main.yaml"


def endpoints(*names: str) -> str:
    return "endpoints:\n" + "".join(f"  {name}: {ENDPOINT.format(7)}\n" for name in names)


def test_includes_come_in_sorted_order_and_once(tmp_path: Path) -> None:
    """A pattern may name the main file and others again: each is read once."""
    main = write(
        tmp_path,
        main="include: [b.yaml, '*.yaml']\n" + endpoints("m"),
        c=endpoints("c"),
        a=endpoints("a"),
        b=endpoints("b"),
    )
    loaded = load(main)
    assert not loaded.problems
    assert [written.name for written in loaded.endpoints] == ["m", "b", "a", "c"]
    assert loaded.endpoints[1].place == Place(str(tmp_path / "b.yaml"), 2, 3)


def test_nothing_matches(tmp_path: Path) -> None:
    """An empty match is fine, also of a directory that is not there, and so is an empty file."""
    main = write(tmp_path, main="include: [conf.d/*.yaml, a.yaml]\n", a="# nothing yet\n")
    loaded = load(main)
    assert not loaded.problems
    assert not loaded.endpoints


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that catches a whole directory of something else does not read it all."""
    monkeypatch.setattr(load_module, "MAX_INCLUDED_FILES", 2)
    main = write(tmp_path, main="include: '*.yaml'\n", a=endpoints("a"), b=endpoints("b"), c=endpoints("c"))
    assert [str(problem) for problem in load(main).problems] == [
        f"{main}:1:10: include: more than 2 files are included"
    ]


@pytest.mark.parametrize("written", ["conf.d", "conf.d/"])
def test_a_directory_is_named(tmp_path: Path, written: str) -> None:
    """The include's own line is to blame, and what was meant is offered."""
    (tmp_path / "conf.d").mkdir()
    main = write(tmp_path, main=f"# more\ninclude: {written}\n")
    assert [str(problem) for problem in load(main).problems] == [
        f"{main}:2:10: include: {tmp_path / 'conf.d'} is a directory: write conf.d/*.yaml"
    ]


def test_directory_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without permission is not the same as an empty one."""
    (tmp_path / "conf.d").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    main = write(tmp_path, main="include: conf.d/*.yaml\n")
    assert load(main).problems[0].text == f"the directory {tmp_path / 'conf.d'} can't be read"


def test_what_is_right_is_kept(tmp_path: Path) -> None:
    """A wrong key leaves the rest of its endpoint to be checked further."""
    main = write(
        tmp_path, main="endpoints: {a: {listen: 'unix://a', protocol: 5, limits: {idle: 1m}}, b: 5}\n"
    )
    loaded = load(main)
    assert len(loaded.problems) == 2
    assert loaded.endpoints[0].endpoint.limits.idle == 60.0
    assert loaded.endpoints[0].endpoint.protocol == ""
    assert loaded.endpoints[1].endpoint.listen == ()
    assert loaded.endpoints[1].value == {}


def test_problem_of_the_main_file(tmp_path: Path) -> None:
    """Later stages can point into the main file, also at what is not written there."""
    loaded = load(write(tmp_path, main="defaults: {socket: {user: x}}\n" + endpoints("a")))
    assert str(loaded.problem("no", "defaults", "socket", "user").place).endswith("main.yaml:1:27")
    assert str(loaded.problem("no", "daemon").place).endswith("main.yaml:1:1")
    assert isinstance(loaded.root, Mapping)


def test_merge_goes_key_by_key() -> None:
    """What was written nearest wins, mappings are merged, the rest is usual."""
    defaults = Socket(keepalive=Keepalive(idle=5, count=2), backlog=10, mode=0o600)
    near = Socket(keepalive=Keepalive(count=9), mode=0o666)
    merged = merge(Socket(), defaults, near)
    assert merged == Socket(keepalive=Keepalive(idle=5, count=9), backlog=10, mode=0o666)
    assert merged.nodelay


def test_off_unsets_and_can_be_set_again() -> None:
    """`off` takes an inherited value away; a nearer mapping brings it back with the usual rest."""
    assert merge(Socket(keepalive=Keepalive(idle=5)), Socket(keepalive=None)).keepalive is None
    assert merge(Socket(keepalive=None), Socket(keepalive=Keepalive(count=2))).keepalive == Keepalive(count=2)
    assert merge(Limits(stall=5.0), Limits(stall=None)).stall is None


@pytest.mark.parametrize(
    ("written", "required"),
    [(True, Required()), (False, None), ({"give_up_after": 5.0}, Required(give_up_after=5.0))],
)
def test_required(written: object, required: Required | None) -> None:
    """`true` has a usual time."""
    value = {"listen": "unix://a", "protocol": "echo", "required": written}
    assert Endpoint.model_validate(value).required == required


def test_a_right_file_asks_for_no_protocols_options(tmp_path: Path) -> None:
    """Asking loads the protocol: it is for messages about unknown keys, which a right file has none of."""
    asked: list[str] = []

    def options_of(protocol: str) -> list[str]:
        asked.append(protocol)
        return ["prefix"]

    main = write(tmp_path, main=endpoints("a", "b"))
    assert not load(main, options_of).problems
    assert not asked
    main = write(
        tmp_path, main=endpoints("a") + "  b: {listen: 'tcp://127.0.0.1:8', protocol: echo, prefix: x}\n"
    )
    (problem,) = load(main, options_of).problems
    assert problem.text.endswith("it is an option of the protocol, write it under 'options'")
    assert asked == ["echo"]
