"""Modules that are loaded when somebody asks them for a name."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import pytest

from sockd.cli import lazy


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where modules may be written; those that were imported from there are forgotten in the end."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def put_off(directory: Path, text: str) -> Any:
    """A module with this text, as somebody has it who imports it."""
    (directory / "put_off_one.py").write_text(text)
    lazy.put_off("put_off_one")
    return importlib.import_module("put_off_one")


def is_loaded(module: ModuleType) -> bool:
    return type(module) is ModuleType


def test_a_name_loads_the_module(modules: Path) -> None:
    """Importing it doesn't, however often; then it is as if it had been imported as usual."""
    one = put_off(modules, "import sys\nhere = sys.modules[__name__]\n")
    assert importlib.import_module("put_off_one") is one
    assert not is_loaded(one)
    assert one.here is one
    assert is_loaded(one)
    assert one.__file__ == str(modules / "put_off_one.py")
    with pytest.raises(AttributeError, match="module 'put_off_one' has no attribute 'there'"):
        _ = one.there


def test_what_looks_at_all_modules_loads_none(modules: Path) -> None:
    """The `warnings` module and its like ask everything that is imported for names with underscores."""
    one = put_off(modules, "")
    assert not hasattr(one, "__warningregistry__")
    assert not is_loaded(one)


def test_all_names_are_imported(modules: Path) -> None:
    """`import *` asks for `__all__`, and takes what there is where that is missing."""
    for text in ("__all__ = ['name']\nname = 1\n", "name = 1\n"):
        sys.modules.pop("put_off_one", None)
        importlib.invalidate_caches()
        put_off(modules, text)
        names: dict[str, object] = {}
        exec("from put_off_one import *", names)
        assert names["name"] == 1


def test_what_is_replaced_stays_so(modules: Path) -> None:
    """Loading the module later doesn't bring back what somebody, who only set it, put something else for."""
    one = put_off(modules, "name = 1\nother = 2\n")
    one.name = "mine"
    assert one.other == 2
    assert one.name == "mine"


def test_a_name_that_is_missing_is_no_reason_to_load_again(modules: Path) -> None:
    """Not even while the module is being loaded, and somebody whom it imports looks back."""
    (modules / "looks_back.py").write_text("import put_off_one\nfound = hasattr(put_off_one, 'late')\n")
    one = put_off(modules, "import looks_back\nlate = looks_back.found\n")
    assert one.late is False


def test_a_module_that_fails_fails_each_time(modules: Path) -> None:
    """As an import does."""
    one = put_off(modules, "import no_such_module\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            _ = one.name
    (modules / "no_such_module.py").write_text("")
    importlib.invalidate_caches()
    with pytest.raises(AttributeError):
        _ = one.name
    assert is_loaded(one)


def test_threads_wait_for_the_one_that_loads(modules: Path) -> None:
    """None of them sees a part of a module."""
    gate: Any = ModuleType("gate")
    gate.entered, gate.open = Event(), Event()
    sys.modules["gate"] = gate
    one = put_off(modules, "import gate\ngate.entered.set()\ngate.open.wait(60)\nname = 1\n")
    found, asking = [], Event()

    def second() -> None:
        asking.set()
        found.append(getattr(one, "name", None))

    threads = [Thread(target=lambda: found.append(one.name)), Thread(target=second)]
    threads[0].start()
    assert gate.entered.wait(60)
    threads[1].start()
    assert asking.wait(60)
    gate.open.set()
    for thread in threads:
        thread.join()
    assert found == [1, 1]


def test_a_module_of_a_package(modules: Path) -> None:
    """The package is loaded, which may import it, and has it as its own."""
    (modules / "parcel").mkdir()
    (modules / "parcel/__init__.py").write_text("from . import inner\n")
    (modules / "parcel/inner.py").write_text("name = 1\n")
    lazy.put_off("parcel.inner")
    parcel = importlib.import_module("parcel")
    assert parcel.inner is sys.modules["parcel.inner"]
    assert not is_loaded(parcel.inner)
    assert parcel.inner.name == 1


def test_what_is_loaded_stays_so(modules: Path) -> None:
    """Somebody may have names of it."""
    lazy.put_off("sys", "pytest")
    assert sys.modules["pytest"] is pytest
    assert is_loaded(pytest)


def test_what_is_not_there_is_not_put_off(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports it finds that out by the import: Python may have been built without OpenSSL."""
    (modules / "half.py").write_text("import _half\n")
    monkeypatch.setitem(lazy._RESTS_ON, "half", "_half")
    lazy.put_off("half", "no_such_module", "no_such_package.module", "pytest.no_such_module")
    for name in ("half", "no_such_module", "no_such_package.module", "pytest.no_such_module"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
