"""docs/protocols/chat.md has every option and every command."""

from pathlib import Path

from sockd.protocols.chat.commands import COMMANDS
from sockd.protocols.chat.options import ChatOptions

PAGE = Path(__file__).parents[3] / "docs/protocols/chat.md"


def test_options() -> None:
    """Every option is there, with its default."""
    page = PAGE.read_text()
    for name, value in ChatOptions().model_dump(mode="json").items():
        assert f"| `{name}` | `{value}` |" in page


def test_commands() -> None:
    """Every command is there, with its arguments."""
    page = PAGE.read_text()
    for word, command in COMMANDS.items():
        assert f"| `{f'/{word} {command.arguments}'.rstrip()}` |" in page
