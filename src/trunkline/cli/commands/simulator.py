"""`trunkline simulator`: carriers and handsets to try things on, in a process of their own."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_HTTP: Final = "127.0.0.1:8010"


def command(
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="Where to listen; port 0 is any.")
    ] = DEFAULT_HTTP,
    data: Annotated[
        Path, typer.Option("--data", help="Where everything it was given is written down.")
    ] = Path("trunkline-simulator"),
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", help="Written, as JSON, when it takes requests."),
    ] = None,
    reoffer_ms: Annotated[
        int,
        typer.Option(
            "--reoffer-ms",
            min=1,
            max=3_600_000,
            help="When what was offered and not acknowledged is offered again.",
        ),
    ] = 3_000,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Makes random losses repeat from run to run.")
    ] = None,
    die_with_parent: Annotated[
        bool,
        typer.Option("--die-with-parent", help="End when the process that started this one does."),
    ] = False,
) -> None:
    """Run a simulated phone network: a carrier for hosts to bind to, and handsets to look into.

    It writes down everything it is given before it answers, and starts again from that file. It
    asks nobody who they are: keep it on a loopback address.
    """
    from trunkline.kernel.lifeline import die_with_parent as tie_to_parent
    from trunkline.simulator import serve

    if die_with_parent:
        tie_to_parent()
    host, port = _address(http)
    settings = serve.Settings(
        host=host,
        port=port,
        data=data,
        ready_file=ready_file,
        reoffer_s=reoffer_ms / 1000.0,
        seed=seed,
    )
    try:
        code = serve.run(settings)
    except serve.SimulatorError as error:
        typer.echo(f"trunkline simulator: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65_536):
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, such as {DEFAULT_HTTP}")
    return host, int(port)
