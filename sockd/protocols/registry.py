"""The protocols that are installed, each loaded when it is asked for by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from sockd.base.errors import ProtocolUnavailableError
from sockd.base.spelling import offer
from sockd.protocols.contract import Specification

GROUP = "sockd.protocols"


@dataclass(frozen=True)
class Installed:
    """One installed protocol: its distribution, and its specification or the reason why it has none."""

    name: str
    distribution: str  # with its version
    specification: Specification | None
    problem: str = ""


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def of_distribution(name: str) -> Callable[[], Iterable[EntryPoint]]:
    """A search, for `Registry`, that finds the protocols of this distribution alone."""
    return lambda: (point for point in _installed() if point.dist and point.dist.name == name)


class Registry:
    """The protocols by name. A distribution that fails to load affects no protocol but its own."""

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] = _installed) -> None:
        self._find = find
        self._found: dict[str, list[EntryPoint]] | None = None
        self._loaded: dict[str, Specification] = {}

    def names(self) -> list[str]:
        return sorted(self._points())

    def get(self, name: str) -> Specification:
        """The protocol of this name; ProtocolUnavailableError with the reason if it can't be used."""
        if name not in self._loaded:
            points = self._points().get(name)
            if points is None:
                text = f"unknown protocol {name[:80]!r}{offer(name, self._points())}"
                raise ProtocolUnavailableError(text)
            self._loaded[name] = _load(points)
        return self._loaded[name]

    def all(self) -> list[Installed]:
        """All that are installed, in the order of their names, with the reason where one fails to load."""
        found = []
        for name in self.names():
            origin = " and ".join(_origin(point) for point in self._points()[name])
            try:
                found.append(Installed(name, origin, self.get(name)))
            except ProtocolUnavailableError as error:
                found.append(Installed(name, origin, None, str(error)))
        return found

    def _points(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            self._found = {}
            for point in self._find():
                self._found.setdefault(point.name, []).append(point)
        return self._found


def _load(points: list[EntryPoint]) -> Specification:
    point = points[0]
    if points[1:]:
        origins = " and ".join(sorted(_origin(one) for one in points))
        raise ProtocolUnavailableError(f"the protocol {point.name!r} is installed twice, by {origins}")
    try:
        specification = point.load()
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"the protocol {point.name!r} of {_origin(point)} can't be loaded: {reason[:300]}"
        raise ProtocolUnavailableError(text) from error
    if not isinstance(specification, Specification):
        text = f"the protocol {point.name!r} of {_origin(point)}: {point.value} is not a Specification"
        raise ProtocolUnavailableError(text)
    return specification


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
