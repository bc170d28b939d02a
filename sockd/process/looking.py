"""Has third parties' modules imported only to look at them: they print nothing, and run no reactor."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_REACTOR = "twisted.internet.reactor"


@contextmanager
def only_looking() -> Iterator[None]:
    """A context in which files are read for a command that ends afterwards.

    A reactor that is imported in it can't be run, which would not return, nor replaced.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        try:
            with redirect_stdout(nothing), redirect_stderr(nothing):
                yield
        finally:
            sys.meta_path.remove(finder)
            finder.release()


class _Finder(MetaPathFinder):
    """Finds Twisted's reactor, which is made when it is imported, and has it kept from then on."""

    def __init__(self) -> None:
        self._kept = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REACTOR:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Keeping(spec.loader)
            self._kept = True
        return spec

    def release(self) -> None:
        if self._kept:
            from sockd.process import only_reactor  # noqa: PLC0415 - loads Twisted, as the reactor has

            only_reactor.release()


class _Keeping(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from sockd.process import only_reactor  # noqa: PLC0415 - as above

        only_reactor.keep(sys.modules[_REACTOR])
