"""What a name leads to: what can't be had is said in one line, with whose it is, at its place in the file."""

import os
import sys
from pathlib import Path

import pytest

from sockd.protocols.factory.options import FactoryOptions
from tests.protocols.factory.hosting import endpoint, module, plan_of, problems, registry


def why(directory: Path, name: str, text: str | None = None, path: str = ".") -> str:
    """Why the name can't be had, where its module has this text."""
    if text is not None:
        module(directory, name.partition(":")[0].replace(".", "/"), text)
    (problem,) = problems(directory, endpoint(f"{{path: {path}, factory: '{name}'}}"))
    place, _, said = problem.partition(": endpoints.web.options.factory: ")
    assert place == f"sockd.yaml:5:{32 + len(path)}", problem
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nowhere_1:f", None, "there is no module 'nowhere_1' in {directory}"),
        (
            "hosted_e1:mak",
            "def make(): ...",
            "hosted_e1 ({directory}hosted_e1.py) has nothing called 'mak', did you mean 'make'?",
        ),
        (
            "hosted_e2:f",
            "import nowhere_2",
            "hosted_e2 imports nowhere_2, which isn't installed ({directory}hosted_e2.py:6)",
        ),
        (
            "hosted_e3:f",
            "x = 1 / 0",
            "hosted_e3 can't be imported: ZeroDivisionError: division by zero ({directory}hosted_e3.py:6)",
        ),
        (
            "hosted_e4:f",
            "raise SystemExit(3)",
            "hosted_e4 can't be imported: SystemExit: 3 ({directory}hosted_e4.py:6)",
        ),
        (
            "hosted_e5:f",
            "def f(:",
            "hosted_e5 can't be imported: invalid syntax ({directory}hosted_e5.py:6)",
        ),
        (
            "hosted_e6:f",
            "Path.nothing",
            (
                "hosted_e6 can't be imported: AttributeError: type object 'Path' has no attribute 'nothing'"
                " ({directory}hosted_e6.py:6)"
            ),
        ),
        (
            "hosted_e7:f",
            "f = 3",
            "hosted_e7:f is of the type int, and neither a factory nor can it be called",
        ),
        (
            "hosted_e8:f",
            "async def f(): ...",
            "hosted_e8:f is a coroutine function, and a factory is needed at once: make it a plain function",
        ),
        (
            "json:f",
            "f = 1",
            "json is {json}, as what is installed comes first: give the module in path another name",
        ),
        ("hosted_e9.f", None, "'hosted_e9.f' is not a module, a colon and a name in it, like hosted_e9:f"),
    ],
)
def test_what_cannot_be_had(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    """The file's own name isn't there, or imports what isn't, or raises: which, of whose, and where."""
    json = sys.modules["json"].__file__
    assert why(tmp_path, name, text) == said.format(directory="" if text else str(tmp_path), json=json)


def test_a_factory_for_datagrams(tmp_path: Path) -> None:
    """It serves connections alone, and can't be called for a protocol of each address."""
    module(tmp_path, "hosted_for_datagrams", "ready = Factory()\n")
    text = endpoint("{datagram: 'hosted_for_datagrams:ready', path: .}", "udp://127.0.0.1:1")
    (problem,) = problems(tmp_path, text)
    assert "options.datagram: hosted_for_datagrams:ready is of the type Factory, which can't be" in problem


def test_a_package_without_that_module(tmp_path: Path) -> None:
    """It is said which part of the dotted name is missing."""
    module(tmp_path, "hosted_p1/__init__", "")
    module(tmp_path, "hosted_p1/app", "")
    module(tmp_path, "hosted_p2", "")
    assert why(tmp_path, "hosted_p1.ap:f") == (
        "the package hosted_p1 (hosted_p1/__init__.py) has no module 'ap', did you mean 'app'?"
    )
    assert why(tmp_path, "hosted_p2.app:f") == (
        "hosted_p2 (hosted_p2.py) is a module, not a package with a module 'app' in it"
    )


def test_without_path(tmp_path: Path) -> None:
    """What isn't installed needs its directory."""
    assert problems(tmp_path, endpoint("{factory: 'nowhere_3:f'}")) == [
        (
            "sockd.yaml:5:24: endpoints.web.options.factory: there is no module 'nowhere_3' that is"
            " installed: name its directory as path"
        )
    ]


def test_directories_that_are_wrong(tmp_path: Path) -> None:
    """Each of them is reported at its place."""
    (tmp_path / "file").write_text("")
    text = endpoint("{factory: 'nowhere_4:f', path: [gone, file, file/below]}")
    assert problems(tmp_path, text) == [
        "sockd.yaml:5:46: endpoints.web.options.path[0]: gone: there is no such directory",
        "sockd.yaml:5:52: endpoints.web.options.path[1]: file: this is not a directory",
        (
            "sockd.yaml:5:58: endpoints.web.options.path[2]: file/below: this directory can't be found: Not a"
            " directory"
        ),
    ]


def test_a_kind_of_address_that_nothing_serves(tmp_path: Path) -> None:
    """An endpoint with datagrams names what serves them, and one with connections too."""
    module(tmp_path, "hosted_kinds", "class Both(DatagramProtocol): ...\ndef make(): return Factory()\n")
    both = "tcp://127.0.0.1:1, udp://127.0.0.1:1"
    assert problems(tmp_path, endpoint("{factory: 'hosted_kinds:make', path: .}", both)) == [
        (
            "sockd.yaml:3:33: endpoints.web.listen[1]: there are datagrams here, and the options have no"
            " 'datagram', which names what serves them"
        )
    ]
    assert problems(tmp_path, endpoint("{datagram: 'hosted_kinds:Both', path: .}", both)) == [
        (
            "sockd.yaml:3:14: endpoints.web.listen[0]: there are connections here, and the options have no"
            " 'factory', which names what serves them"
        )
    ]
    good = "{factory: 'hosted_kinds:make', datagram: 'hosted_kinds:Both', path: .}"
    assert problems(tmp_path, endpoint(good, both)) == []
    assert problems(tmp_path, endpoint("{path: .}")) == [
        (
            "sockd.yaml:5:5: endpoints.web.options: name what serves connections as factory, or what serves"
            " datagrams as datagram"
        )
    ]


def test_the_protocol_is_found_by_its_name() -> None:
    """As `factory`, in the registry that tests make and in ours."""
    assert registry().get("factory").options is FactoryOptions


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who has something to lose")
@pytest.mark.parametrize("how", ["file", "package", "directory", "link"])
def test_root_imports_nothing_of_another_user(how: str, tmp_path: Path) -> None:
    """Neither a file that somebody else owns, nor one in such a directory, nor one behind such a link."""
    tmp_path.chmod(0o755)
    name = f"hosted_untrusted_{how}"
    site = tmp_path / "site"
    ran = "raise AssertionError('it ran')\n"
    file = module(site, f"{name}/__init__" if how == "package" else name, ran)
    if how == "link":
        (tmp_path / "theirs").symlink_to(site)
        os.lchown(tmp_path / "theirs", 65534, 65534)
        tmp_path.chmod(0o1777)
    else:
        os.chown(file if how == "file" else file.parent, 65534, 65534)
    path = "theirs" if how == "link" else "site"
    said = why(tmp_path, f"{name}:f", path=path)
    assert said.endswith(
        " may have been written by another user than root, who imports it: give it and its directories"
        " to root"
    )


def test_what_is_hosted(tmp_path: Path) -> None:
    """The status shows them, and what holds up the reactor is found by them."""
    module(tmp_path, "hosted_named", "def make(): return Factory()\n")
    (plan,) = plan_of(tmp_path, endpoint("{factory: 'hosted_named:make', path: .}")).endpoints
    assert plan.options.hosted().names == ("hosted_named:make",)
