"""What ports read with, for tests to have it fail as no kernel does when asked to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sockd.transports.datagrams.receive import receiver


@contextmanager
def receivers() -> Iterator[list[Any]]:
    """The receivers of all ports that are made within this context, in order."""
    made: list[Any] = []

    def noted(*arguments: Any) -> Any:
        made.append(receiver(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sockd.transports.datagrams.port.receiver", noted)
        yield made
