"""The declarations of the control commands, and that everything which comes from them is there."""

import re
from pathlib import Path

import click
import pytest

from sockd.base.units import format_duration
from sockd.cli.main import command as sockd
from sockd.control.commands import COMMANDS, Command
from sockd.control.requests import ARGUMENTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text()
EACH = pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)


def section(name: str) -> str:
    """What the page says of requests for this command: from the heading that has its name to the next."""
    requests = PAGE.partition("\n## Requests\n")[2]
    for heading, text in re.findall(r"^### (.*)\n((?:(?!^#).*\n?)*)", requests, re.MULTILINE):
        if name in heading.split(", "):
            return str(text)
    raise AssertionError(f"docs/control.md has no section on {name} below Requests")


@EACH
def test_the_page_has_it(command: Command) -> None:
    """In the table of commands, and in a section below Requests that names its arguments."""
    assert re.search(rf"^\| `sockd {command.name}\b", PAGE, re.MULTILINE)
    text = section(command.name)
    for argument in command.arguments:
        assert f"`{argument.name}`" in text


def test_the_page_has_no_other() -> None:
    """What isn't there any more isn't described either."""
    requests = PAGE.partition("\n## Requests\n")[2]
    headings = re.findall(r"^### (.*)$", requests, re.MULTILINE)
    assert {name for heading in headings for name in heading.split(", ")} == set(COMMANDS)


def test_the_page_has_the_time_outs() -> None:
    """Those that are longer than the usual one by the names of their commands."""
    (row,) = re.findall(r"^\| `--timeout DURATION` \| (.*)$", PAGE, re.MULTILINE)
    usual = min(command.timeout for command in COMMANDS.values())
    longer = {command.name: command.timeout for command in COMMANDS.values() if command.timeout > usual}
    assert f"Else {format_duration(usual)};" in row
    assert set(longer) == set(re.findall(r"`([a-z]+)`", row))
    assert all(f"{format_duration(timeout)} for" in row for timeout in longer.values())


@EACH
def test_requests_have_its_arguments(command: Command) -> None:
    """A model for each, with the same fields, required or not."""
    fields = ARGUMENTS[command.name].model_fields
    assert {name: field.is_required() for name, field in fields.items()} == {
        argument.name: argument.required for argument in command.arguments
    }


@EACH
def test_the_sockd_command_has_it(command: Command) -> None:
    """With its help, its time-out and those of its arguments that have a place on the command line."""
    assert isinstance(sockd, click.Group)
    subcommand = sockd.commands[command.name]
    assert subcommand.get_short_help_str() == command.summary
    assert subcommand.help == command.help
    with click.Context(subcommand, info_name=command.name) as context:
        text = " ".join(subcommand.get_help(context).split())
    assert f"Without it: {format_duration(command.timeout)}." in text
    arguments = [one.name for one in subcommand.params if isinstance(one, click.Argument)]
    own = {"kick": ["who"], "status": ["names"]}  # that aren't a request's, or of another form there
    declared = [argument.name for argument in command.arguments if argument.metavar]
    assert arguments == own.get(command.name, declared)


@EACH
def test_its_help_is_for_people(command: Command) -> None:
    """A summary is a sentence that fits into the list of `sockd --help`."""
    assert re.fullmatch(r"[A-Z].{,60}\.", command.summary)
    assert re.match(r"[A-Z]", command.help)
    assert command.help.endswith(".")
