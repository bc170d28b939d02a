"""chat's specification and options."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from sockd.base.units import Rate
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.specification import specification


def test_defaults() -> None:
    """The options of a chat that names none."""
    options = ChatOptions()
    assert (options.room, options.rooms, options.history, options.members) == ("lobby", 100, 20, 1000)
    assert (options.rate, options.queue) == (Rate(5, 1.0), 65536)
    assert specification.idle == 3600


def test_written() -> None:
    """Options as they are written in the file."""
    options = ChatOptions.model_validate({"room": "ops", "rate": "100/m", "queue": "16KiB"})
    assert (options.room, options.rate, options.queue) == ("ops", Rate(100, 60.0), 16384)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"room": "#ops"}, "#ops' is not a room's name: 1 to 24 ASCII letters, digits, - and _"),
        ({"rooms": 0}, "greater than or equal to 1"),
        ({"queue": "1KiB"}, "1KiB is out of range (8KiB to 1MiB)"),
        ({"rate": "0/s"}, "lets nothing through"),
        ({"topic": "x"}, "Extra inputs"),
    ],
)
def test_wrong(written: dict[str, object], message: str) -> None:
    """The message for a wrong option says what is wrong."""
    with pytest.raises(ValidationError) as caught:
        ChatOptions.model_validate(written)
    assert message in str(caught.value)


def test_schema() -> None:
    """Every option has a sentence and a default."""
    for option in ChatOptions.model_json_schema()["properties"].values():
        assert option["description"].endswith(".")
        assert "default" in option


def test_check_stays_quick() -> None:
    """Reading the options imports nothing of the chat itself, nor Twisted's network."""
    program = (
        "import sys; import sockd.protocols.chat.specification;"
        "print(sorted(name for name in sys.modules if name.startswith('sockd.protocols.chat.')),"
        " 'twisted.internet.protocol' in sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True).strip()
    assert printed == (
        "['sockd.protocols.chat.lines', 'sockd.protocols.chat.options', 'sockd.protocols.chat.specification']"
        " False"
    )
