"""Says in one line why a callable can't be had: what is missing, whose it is, and where."""

import os
import pkgutil
import sys
import traceback

import sockd
from sockd.base.errors import SockdError
from sockd.base.spelling import offer
from sockd.config.values import shown
from sockd.protocols import loading
from sockd.protocols.factory.modules import ConflictError, Directories, UntrustedError


def why_not(name: str, path: Directories, error: BaseException) -> str:
    """Why this `package.module:name` can't be had, for which importing it has raised the error."""
    module = name.partition(":")[0]
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, ConflictError | UntrustedError):
        return str(error)
    if isinstance(error, loading.ReactorInstalledError):
        return f"{module} can't be served: it {error}"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if f"{module}.".startswith(f"{error.name}."):
            return _not_there(error.name, path) + notes
        return f"{module} imports {error.name}, which isn't installed{_at(error)}{notes}"
    if isinstance(error, AttributeError) and module in sys.modules and not _own_frame(error):
        return _no_such_name(name) + notes
    return f"{module} can't be imported: {_reason(error)}{_at(error)}{notes}"


def _not_there(module: str, path: Directories) -> str:
    package, _, last = module.rpartition(".")
    if not package:
        where = (
            f"in {' or '.join(map(str, path))}" if path else "that is installed: name its directory as path"
        )
        return f"there is no module {module!r} {where}"
    there = sys.modules.get(package)
    file = getattr(there, "__file__", None) or next(iter(getattr(there, "__path__", ())), "")
    inside = getattr(there, "__path__", None)
    if inside is None:
        return f"{package} ({file}) is a module, not a package with a module {last!r} in it"
    names = [one.name for one in pkgutil.iter_modules(inside)]
    return f"the package {package} ({file}) has no module {last!r}{offer(last, names)}"


def _no_such_name(name: str) -> str:
    module, _, attribute = name.partition(":")
    there = sys.modules[module]
    file = getattr(there, "__file__", None)
    names = [one for one in vars(there) if not one.startswith("_")]
    found = offer(attribute, names)
    near = found if found.startswith(",") else ""
    return f"{module}{f' ({file})' if file else ''} has nothing called {shown(attribute)}{near}"


def _own_frame(error: BaseException) -> bool:
    """Whether it was raised while a module was being executed, and not by looking for the name in it."""
    return any("importlib" in frame.filename for frame in traceback.extract_tb(error.__traceback__)[1:])


def _reason(error: BaseException) -> str:
    if isinstance(error, SockdError):
        return str(error)
    return error.msg if isinstance(error, SyntaxError) else loading.reason(error)


def _at(error: BaseException) -> str:
    """The place in the module: of a syntax error, or where the innermost of its lines has failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", _SOCKD, _IMPORTLIB)):
            return f" ({frame.filename}:{frame.lineno})"
    return ""


_SOCKD = f"{os.path.dirname(sockd.__file__)}/"
_IMPORTLIB = f"{os.path.dirname(os.__file__)}/importlib/"
