"""The options of a chat endpoint, as its file has them."""

from typing import Annotated

from pydantic import Field, ValidationInfo

from sockd.base.units import Rate
from sockd.config import types
from sockd.config.form import Form
from sockd.config.values import shown
from sockd.protocols.chat import lines
from sockd.protocols.contract import Options


def _read_room(value: object, _info: ValidationInfo) -> str:
    text = types.read_text(value)
    if not lines.is_name(text):
        raise ValueError(f"{shown(text)} is not a room's name: {lines.NAME_RULE}")
    return text


Room = Annotated[str, Form(_read_room, str, {"type": "string", "pattern": f"^{lines.NAME_PATTERN}$"})]
Queue = Annotated[int, types.size(8 * 1024, 1024 * 1024)]


class ChatOptions(Options):
    room: Room = Field("lobby", description="The room that every member enters first; it always exists.")
    rooms: types.Integer = Field(
        100, ge=1, le=10_000, description="How many rooms may exist at a time, the first one included."
    )
    history: types.Integer = Field(
        20, ge=0, le=1000, description="How many of a room's last lines a member who joins is shown."
    )
    members: types.Integer = Field(
        1000, ge=1, le=100_000, description="How many members there may be at a time, in all rooms together."
    )
    rate: types.Rate = Field(
        Rate(5, 1.0),
        description="How fast a member may send lines.",
    )
    queue: Queue = Field(
        64 * 1024,
        description="How many bytes may be unsent for a member that does not read before sockd closes it.",
    )
