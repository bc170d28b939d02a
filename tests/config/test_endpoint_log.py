"""Which connections are logged, as the file says it."""

import pytest
from pydantic import ValidationError

from sockd.config.model import EndpointLog


@pytest.mark.parametrize(
    ("written", "share"), [("all", 1), ("refused", 0), ("off", None), ("1/100", 100), ("1/1", 1)]
)
def test_shares(written: str, share: int | None) -> None:
    """Words, and one in so many; they are written again as they were read, in the shortest form."""
    log = EndpointLog.model_validate({"connections": written})
    assert log.connections == share
    assert log.model_dump(mode="json") == {"connections": "all" if share == 1 else written}


@pytest.mark.parametrize("written", ["1/0", "2/100", "1%", "some", "1/10000000", "none"])
def test_what_is_none(written: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValidationError, match="write all, refused, or 1/100"):
        EndpointLog.model_validate({"connections": written})
