"""The protocols that are installed, each loaded when it is asked for by name."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from sockd.base.errors import ProtocolUnavailableError
from sockd.base.spelling import offer
from sockd.protocols import loading
from sockd.protocols.contract import ContractError, Specification

GROUP = "sockd.protocols"
OURS = "sockd"  # the distribution whose protocols a name means first


@dataclass(frozen=True)
class Installed:
    """One installed protocol: its distribution, and its specification or the reason why it has none.

    `name` is what a file has to say; `qualified` is `distribution:name`, which a file may say too.
    """

    name: str
    qualified: str
    distribution: str  # with its version
    specification: Specification | None
    problem: str = ""


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def of_distribution(name: str) -> Callable[[], Iterable[EntryPoint]]:
    """A search, for `Registry`, that finds the protocols of this distribution alone."""
    return lambda: (point for point in _installed() if point.dist and point.dist.name == name)


class Registry:
    """The protocols by name. A distribution that fails to load affects no protocol but its own.

    A name is that of an entry point, or, as `distribution:name`, that of one distribution's. The name alone
    is sockd's own protocol where another distribution has one of this name too, so that nothing that is
    installed changes what a file means; of two others it is neither, and the file has to choose.
    """

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] = _installed) -> None:
        self._find = find
        self._found: dict[str, list[EntryPoint]] | None = None
        self._loaded: dict[str, Specification] = {}

    def names(self) -> list[str]:
        """What a file has to say for each protocol: its name, with its distribution only where it must be."""
        return sorted(
            name if point is self._of_short(name) else f"{_distribution(point)}:{name}"
            for name, points in self._points().items()
            for point in points
        )

    def canonical(self, name: str) -> str:
        """The shorter one of the names of a protocol; the name itself where there is no such protocol."""
        _, separator, short = name.partition(":")
        if not separator:
            return name
        point = self._point(name)
        return short if point is not None and self._of_short(short) is point else name

    def get(self, name: str) -> Specification:
        """The protocol of this name; ProtocolUnavailableError with the reason if it can't be used."""
        name = self.canonical(name)
        if name not in self._loaded:
            point = self._point(name)
            if point is None:
                raise ProtocolUnavailableError(self._why_not(name))
            self._loaded[name] = _load(point)
        return self._loaded[name]

    def all(self) -> list[Installed]:
        """All that are installed, in the order of their names, with the reason where one fails to load."""
        found = []
        for name in self.names():
            point = self._point(name)
            assert point is not None  # noqa: S101 - it is one of the names
            known = (name, f"{_distribution(point)}:{point.name}", _origin(point))
            try:
                found.append(Installed(*known, self.get(name)))
            except ProtocolUnavailableError as error:
                found.append(Installed(*known, None, str(error)))
        return found

    def _point(self, name: str) -> EntryPoint | None:
        distribution, separator, short = name.partition(":")
        if not separator:
            return self._of_short(name)
        named = _normal(distribution)
        return next((one for one in self._points().get(short, ()) if _distribution(one) == named), None)

    def _of_short(self, name: str) -> EntryPoint | None:
        """The entry point that a name without a distribution means."""
        points = self._points().get(name, [])
        ours = [point for point in points if _distribution(point) == OURS]
        return ours[0] if ours else points[0] if len(points) == 1 else None

    def _why_not(self, name: str) -> str:
        """Why there is no protocol of this name."""
        points = self._points().get(name, [])
        if points:
            origins = " and ".join(sorted(_origin(point) for point in points))
            choice = " or ".join(sorted(f"{_distribution(point)}:{name}" for point in points))
            return f"the protocol {name!r} is installed twice, by {origins}: write {choice}"
        return f"unknown protocol {name[:80]!r}{offer(name, self.names())}"

    def _points(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            self._found = {}
            for point in self._find():
                self._found.setdefault(point.name, []).append(point)
        return self._found


def _distribution(point: EntryPoint) -> str:
    return _normal(point.dist.name) if point.dist else "unknown"


def _normal(distribution: str) -> str:
    """A distribution's name as it is compared (PEP 503)."""
    return re.sub("[-_.]+", "-", distribution).lower()


def _load(point: EntryPoint) -> Specification:
    what = f"the protocol {point.name!r} of {_origin(point)}"
    try:
        specification = loading.load(point.value, point.load)
    except loading.ReactorInstalledError as error:
        raise ProtocolUnavailableError(f"{what} can't be served: its module {error}") from error
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split()) if isinstance(error, ContractError) else loading.reason(error)
        raise ProtocolUnavailableError(f"{what} can't be loaded: {why}") from error
    if not isinstance(specification, Specification):
        raise ProtocolUnavailableError(f"{what}: {point.value} is not a Specification")
    return specification


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
