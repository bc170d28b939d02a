"""The modules below the `path` of endpoints: where they are found, and when they are imported anew.

# Theory of operation

Python has one module of a name, whoever imports it. So the directories of all endpoints are one search order,
behind what is installed: an endpoint's own come first in the order of its file, and a name that two endpoints
would take from different files is an error, never the one or the other. It is noticed when the name is
imported, or, where it is imported already, before an endpoint is loaded whose `path` leads elsewhere.

A module is loaded once. A file that has changed since, or a `path` that leads to another one, is followed
only while no endpoint runs that is made of the old modules: they are forgotten then, all that the `path`
leads to, and imported anew. Else two versions of one class would serve the same endpoint, each with its own
globals. An endpoint runs until its service is stopped, which is after its connections have ended.

Root imports nothing that another user may have written.
"""

import importlib
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from sockd.base.errors import SockdError
from sockd.base.paths import is_roots_own
from sockd.protocols import loading

Directories = tuple[Path, ...]


class ConflictError(SockdError, ImportError):
    """A name means one module here, and another one there."""


class UntrustedError(SockdError, ImportError):
    """Root won't run this."""


@dataclass(frozen=True)
class _Loaded:
    """A module that a `path` has led to: its file, or the directory of a package without one."""

    file: str
    stamp: tuple[int, ...]  # what the file was like when it was imported


@dataclass(frozen=True)
class _Use:
    """An endpoint runs with modules that this path leads to."""

    endpoint: str
    path: Directories


Named = Any  # what a name leads to, or what that returns. Any: it is a third party's


@dataclass(frozen=True)
class Found:
    """What a name leads to. `remark` says why it isn't what a new program would find, if it isn't."""

    what: Named
    remark: str = ""


class Modules(MetaPathFinder):
    """The modules of all endpoints of this process, as a finder among Python's own."""

    def __init__(self) -> None:
        self._reading: weakref.ref[object] | None = None  # what the endpoints have in common that are read
        self._paths: dict[str, Directories] = {}  # of these endpoints
        self._loaded: dict[str, _Loaded] = {}
        self._uses: dict[_Use, set[object]] = {}  # and the services of the endpoints
        self._found: dict[str, Found] = {}
        self._importing: ContextVar[Directories | None] = ContextVar("importing", default=None)

    # -- for the options and the factories of endpoints

    def find(self, name: str, path: Directories, endpoint: str, reading: object) -> Found:
        """Import what is called `package.module:name`; ImportError or what its module raises where it fails.

        `reading` is the same object for all endpoints of a file that is being read.
        """
        if reading is None or self._reading is None or self._reading() is not reading:
            self._reading = None if reading is None else weakref.ref(reading)
            self._paths = {}
        self._install()
        importlib.invalidate_caches()
        path, remark = self._make_way(path, endpoint)
        self._paths[endpoint] = path
        token = self._importing.set(path)
        try:
            what = loading.load(name, lambda: _import(name))
        except Exception as error:
            if remark:
                error.add_note(remark)
            raise
        finally:
            self._importing.reset(token)
        found = self._found[name] = Found(what, remark)
        return found

    def known(self, name: str) -> Found:
        """What `find` found last, without a look at any file."""
        return self._found[name]

    def used(self, service: object, endpoint: str, path: Directories) -> None:
        """What the path leads to is in use until `free` is called for this service."""
        use = _Use(endpoint, path)
        # A new mapping each time, as another thread may be looking at the last one.
        self._uses = {**self._uses, use: {*self._uses.get(use, ()), service}}

    def free(self, service: object) -> None:
        """The endpoint with this service has ended."""
        self._uses = {use: left for use, services in self._uses.items() if (left := services - {service})}

    def below(self, path: Directories) -> Iterator[str]:
        """The files of modules that the path has led to."""
        return (one.file for one in tuple(self._loaded.values()) if _is_below(one.file, path))

    def hides(self, name: str, path: Directories) -> str:
        """What is installed, and so comes first, where the path leads to a module of this name as well."""
        top = name.partition(":")[0].partition(".")[0]
        there = sys.modules.get(top)
        spec = self._spec(top, path)
        if there is None or top in self._loaded or spec is None:
            return ""
        return getattr(there, "__file__", None) or "a part of Python"

    # -- old modules

    def _make_way(self, path: Directories, endpoint: str) -> tuple[Directories, str]:
        """Forget old modules, or say why the new ones have to wait; the path that counts, and that remark."""
        for name in [name for name in self._loaded if name not in sys.modules]:
            del self._loaded[name]
        remark = ""
        for name, loaded in list(self._loaded.items()):
            if "." in name or name not in self._loaded:
                continue  # part of a package, or forgotten by now
            spec = self._spec(name, path)
            if spec is None and not _is_below(loaded.file, path):
                continue
            if spec is not None and _file_of(spec) != loaded.file:
                path, why = self._move(name, loaded.file, spec, path, endpoint)
                remark = remark or why
            elif changed := self._changed(name):
                if self._users(loaded.file):
                    what = f"{changed} has changed since it was imported and is in use"
                    remark = remark or f"{what}: sockd upgrade takes it"
                else:
                    self._forget(path)
        return path, remark

    def _move(
        self, name: str, file: str, spec: ModuleSpec, path: Directories, endpoint: str
    ) -> tuple[Directories, str]:
        users = self._users(file)
        named = {one: path for one, path in self._paths.items() if one != endpoint and _is_below(file, path)}
        others = sorted({use.endpoint for use in users} - {endpoint} | named.keys())
        if others:
            first = "" if others[0] in named else ", or reload without that endpoint first"
            raise ConflictError(
                f"{name} is {file} for the endpoint {others[0]!r} and can't be {_file_of(spec)} for this one:"
                f" a name means one module, so rename one of them{first}"
            )
        if users:
            where = f"{name} was imported from {file} and is in use: sockd upgrade takes {_file_of(spec)}"
            return users[0].path, where
        self._forget((Path(file).parent, *path))
        return path, ""

    def _users(self, file: str) -> list[_Use]:
        return [use for use in self._uses if _is_below(file, use.path)]

    def _changed(self, top: str) -> str:
        """The first module in this package, or the module itself, whose file isn't as it was."""
        for name, loaded in list(self._loaded.items()):
            if name.partition(".")[0] == top and _stamp(loaded.file) != loaded.stamp:
                return name
        return ""

    def _forget(self, path: Directories) -> None:
        for name, loaded in list(self._loaded.items()):
            if _is_below(loaded.file, path) and not self._users(loaded.file):
                del self._loaded[name]
                sys.modules.pop(name, None)

    # -- as a finder

    def _install(self) -> None:
        """Before Python's own finder, which a directory without __init__.py would satisfy."""
        if self not in sys.meta_path:
            finders: Sequence[object] = sys.meta_path
            where = finders.index(PathFinder) if PathFinder in finders else len(finders)
            sys.meta_path.insert(where, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None:
            spec = self._of_all(fullname)
        elif fullname.partition(".")[0] in self._loaded:
            spec = PathFinder.find_spec(fullname, path, target)
        else:
            return None
        if spec is None:
            return None
        _vet(spec)
        if spec.submodule_search_locations is not None and spec.origin is None:
            # Python's own list follows sys.path, where these directories are not.
            spec.submodule_search_locations = list(spec.submodule_search_locations)
        file = _file_of(spec)
        self._loaded[fullname] = _Loaded(file, _stamp(file))
        return spec

    def _of_all(self, name: str) -> ModuleSpec | None:
        own = self._importing.get()
        used = {use.path for use in self._uses}
        first = [own] if own is not None else sorted(used)
        paths = dict.fromkeys([*first, *sorted(used), *self._paths.values()])
        if not paths:
            return None
        found = {path: spec for path in paths if (spec := self._spec(name, path)) is not None}
        if not found or (own is not None and own not in found):
            return None
        files = dict.fromkeys(map(_file_of, found.values()))
        installed = PathFinder.find_spec(name)
        # A directory of ours may be in sys.path as well, as the current one is of `python -m sockd`.
        if installed is not None and installed.loader is not None and _file_of(installed) not in files:
            return None
        if len(files) > 1:
            raise ConflictError(
                f"{name} is {' and also '.join(files)}, by the paths of different endpoints: a name means one"
                " module, so rename one of them"
            )
        return next(iter(found.values()), None)

    def _spec(self, name: str, path: Directories) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(directory) for directory in path])


def _import(name: str) -> Named:
    module, _, names = name.partition(":")
    found: Named = importlib.import_module(module)
    for part in names.split("."):
        found = getattr(found, part)
    return found


def _file_of(spec: ModuleSpec) -> str:
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "")


def _is_below(file: str, path: Directories) -> bool:
    return any(file.startswith(f"{directory}/".replace("//", "/")) for directory in path)


def _stamp(file: str) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except OSError:
        return ()
    if os.path.isdir(file):
        return (0,)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _vet(spec: ModuleSpec) -> None:
    if not spec.has_location:
        return
    for file in (spec.origin, spec.cached):
        if file is not None and not is_roots_own(Path(file)):
            raise UntrustedError(
                f"{file} may have been written by another user than root, who imports it: give it and its"
                " directories to root"
            )


# Python has one of each name, and so has this process.
modules = Modules()
