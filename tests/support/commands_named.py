"""Commands as documents name them, looked up in the command itself."""

from collections.abc import Iterable
from typing import Any

import typer
from typer.main import get_command

from cruisers.__main__ import app


def reached(lines: Iterable[str]) -> set[str]:
    """The commands, as `head console`, of `lines` (what stands behind `cruisers`); every one, and every option in it, must exist."""
    found = set()
    for line in lines:
        command: Any = get_command(app)
        words, path = line.split(), []
        while hasattr(command, "list_commands"):  # a group
            path.append(words.pop(0))
            command = command.get_command(typer.Context(command), path[-1])
            assert command is not None, line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
        found.add(" ".join(path))
    return found
