"""Modules that others import and we seldom need are loaded when somebody asks them for a name."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

# Together they are 7 MB, most of it OpenSSL, which comes with `secrets` too. All but this one are imported by
# importlib.metadata.
BESIDE_PYDANTIC = ("secrets", "bz2", "lzma", "calendar", "csv")
# Twisted imports asyncio, cookiejar and pdb; asyncio and cookiejar import ssl.
BESIDE_TWISTED = ("ssl", "asyncio.sslproto", "http.cookiejar", "pdb")

# Without it the module can't be imported, which is for whoever imports it to know at once.
_RESTS_ON = {"bz2": "_bz2", "lzma": "_lzma", "ssl": "_ssl"}


class LazyModule(ModuleType):
    """A module that is loaded when it is asked for a name, by one thread while others wait.

    The standard library's LazyLoader would load it already when it is imported a second time.
    """

    def __getattr__(self, name: str) -> Any:
        # What is known of any module: whoever goes through them all asks for it. But `import *` goes without
        # `__all__` by what is there so far, which would be nothing.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        loading: _Loading = self.__spec__.loader_state  # type: ignore[union-attr]
        loading.load(self)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Whoever replaces a name, as debuggers do, has the last word: not the module when it is loaded."""
        if not name.startswith("__"):
            hasattr(self, name)
        ModuleType.__setattr__(self, name, value)


class _Loading:
    def __init__(self) -> None:
        self._lock = RLock()
        self._begun = False

    def load(self, module: LazyModule) -> None:
        with self._lock:
            if self._begun:  # by this thread, as imports go round, or to its end
                return
            self._begun = True
            try:
                module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
            except BaseException:
                self._begun = False
                raise
            module.__class__ = ModuleType  # type: ignore[assignment]


def put_off(*names: str) -> None:
    """Have those of these modules that aren't loaded yet loaded later; the packages they are in are now."""
    for name in names:
        if name in sys.modules or (name in _RESTS_ON and find_spec(_RESTS_ON[name]) is None):
            continue
        spec = _spec(name)
        if spec is None:
            continue
        spec.loader_state = _Loading()
        module = module_from_spec(spec)
        module.__class__ = LazyModule
        sys.modules[name] = module
        package, _, last = name.rpartition(".")
        if package:
            setattr(import_module(package), last, module)


def _spec(name: str) -> ModuleSpec | None:
    """As find_spec, which would import the package, which may import the module."""
    package, _, _ = name.rpartition(".")
    if not package:
        return find_spec(name)
    outer = find_spec(package)
    return outer and PathFinder.find_spec(name, outer.submodule_search_locations)
