"""`cruisers head`: what a technician does with a head that is in a truck: look at it, and bring it up to date.

The commands' work is in the gateway, which does the same without him; a technician's machine finds the board on USB, too."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A sensor head that is on duty: what it says, and its update.")


@app.callback()
def head() -> None:
    """A sensor head that is on duty: what it says, and its update."""
