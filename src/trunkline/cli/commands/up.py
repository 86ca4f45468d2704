"""`trunkline up`: a host, or three, and a simulated carrier, ready for a first message, until ctrl-C."""

import os
from pathlib import Path
from typing import Annotated

import typer

from trunkline.host import config


def command(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Where everything is kept [trunkline-data].")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT of the API; port 0 takes a free one.")
    ] = None,
    carrier: Annotated[
        str | None, typer.Option(help="URL of a simulated carrier that runs already.")
    ] = None,
    simulator_http: Annotated[
        str | None, typer.Option(help="HOST:PORT of our own simulated carrier.")
    ] = None,
    hosts: Annotated[
        int, typer.Option(help="How many hosts: 1, or a cluster of 3 and more on this machine.")
    ] = 1,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write here, as JSON, how to reach the hosts once all are ready."),
    ] = None,
    ephemeral: Annotated[
        bool | None, typer.Option("--ephemeral", help="Keep nothing: all in memory.")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    nats_server: Annotated[
        Path | None, typer.Option(help="The log engine's program, in place of our own.")
    ] = None,
) -> None:
    """Run a host here, or several, with a simulated carrier, until ctrl-C or SIGTERM.

    Exits with 0 when all that was under way was finished in time.
    """
    # Whatever is made from here on is for this user only.
    os.umask(0o077)
    flags = {
        "host.data": data,
        "host.http": http,
        "host.ephemeral": ephemeral,
        "host.nats_server": nats_server,
        "carrier.url": carrier,
        "carrier.simulator_http": simulator_http,
    }
    settings = config.load(config_file, flags, config.environment())
    from trunkline.host.up import run_up

    raise typer.Exit(run_up(settings, ready_file=ready_file, hosts=hosts))
