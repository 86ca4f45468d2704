"""The entry point. Only the command that was called is imported, so that a quick one is quick.

What an operator can mend is one sentence on standard error and exit code 1; a wrong command line is
exit code 2. A traceback is a bug.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from trunkline.cli.commands import COMMANDS, Command
from trunkline.host.refusal import FlagError, HostError
from trunkline.version import __version__

EXIT_FAILED = 1
EXIT_WRONG_COMMAND_LINE = 2
EXIT_INTERRUPTED = 130


def run() -> None:
    """Run the command line of this process, and exit."""
    try:
        application(sys.argv[1:])(prog_name="trunkline")
    except HostError as error:
        sys.stderr.write(f"trunkline: {error}\n")
        sys.exit(EXIT_WRONG_COMMAND_LINE if isinstance(error, FlagError) else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def application(arguments: list[str]) -> typer.Typer:
    """The application for a command line: the one command it names is real, the others are known
    by name and summary only, for `--help` and for what is said of a misspelt one."""
    app = typer.Typer(
        help="A self-hosted communications cloud with an API compatible with the Twilio API.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    # A callback keeps the command's name in the usage even where one command is registered.
    app.callback()(_before_any_command)
    called = arguments[0] if arguments else ""
    for name, command in COMMANDS.items():
        act = _imported(command) if name == called else _named_only
        app.command(
            name, help=None if name == called else command.summary, hidden=command.is_hidden
        )(act)
    return app


def _imported(command: Command) -> Callable[..., None]:
    act: Callable[..., None] = import_module(command.module).command
    return act


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"trunkline {__version__}")
        raise typer.Exit


def _before_any_command(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


def _named_only() -> None:
    pass
