"""Whose call an event of the reactor is, as far as frames tell: the endpoint and the place in the code."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sockd.tree.endpoint import Endpoint
from sockd.tree.owners import OURS, Owners, package_of


@dataclass(frozen=True)
class Culprit:
    """The endpoint, or "" where it isn't known, and the call, such as `Web.dataReceived (web.py:12)`."""

    endpoint: str
    call: str


def culprit(frames: Sequence[FrameType], endpoints: Iterable[Endpoint]) -> Culprit:
    """Whose event it is of which these are the frames, outermost first."""
    owners = Owners(endpoints)
    found = owners.of_frames(reversed(frames)) or " or ".join(owners.by_module(frames))
    return Culprit(found, _call(frames))


def _call(frames: Sequence[FrameType]) -> str:
    """The outermost function that is neither sockd's nor Twisted's, then the innermost, at its line."""
    theirs = [frame for frame in frames if package_of(frame) not in (OURS, "twisted", "asyncio")]
    first, last = (theirs or frames)[0], (theirs or frames)[-1]
    text = first.f_code.co_qualname
    if last.f_code is not first.f_code:
        text += f", in {last.f_code.co_qualname}"
    return f"{text} ({Path(last.f_code.co_filename).name}:{last.f_lineno})"
