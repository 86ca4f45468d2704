"""`trunkline host`: one host process. `trunkline up` starts it; a service manager may as well.

With `--settings` it is the child of an `up`, which has opened and locked everything for it.
"""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from trunkline.host import config
from trunkline.host.config import Settings
from trunkline.host.give_way import step_back
from trunkline.host.layout import Layout
from trunkline.host.refusal import ConfigError
from trunkline.kernel.lifeline import die_with_parent as end_with_parent


def command(
    *,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Settings as 'up' resolved them.")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of the API.")] = None,
    carrier: Annotated[str | None, typer.Option(help="URL of the simulated carrier.")] = None,
    nats_server: Annotated[Path | None, typer.Option(help="The log engine's program.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written as JSON once the host is ready.")
    ] = None,
    http_fd: Annotated[
        int | None, typer.Option(help="The API's listener, opened by the parent.")
    ] = None,
    services: Annotated[
        str | None, typer.Option(help="Only these services, as the parent's own process groups.")
    ] = None,
    is_locked: Annotated[
        bool, typer.Option("--is-locked", help="The parent holds the data folder's lock.")
    ] = False,
    die_with_parent: Annotated[
        bool, typer.Option("--die-with-parent", help="End at once when the parent ends.")
    ] = False,
) -> None:
    """Run one host process against a carrier that runs already."""
    if die_with_parent:
        end_with_parent()
    os.umask(0o077)
    if settings_file is None:
        flags = {
            "host.data": data,
            "host.http": http,
            "host.nats_server": nats_server,
            "carrier.url": carrier,
        }
        settings = config.load(config_file, flags, config.environment())
    else:
        settings = config.from_json(settings_file.read_bytes())
    _require_carrier(settings)
    settings = dataclasses.replace(settings, http_fd=http_fd)
    layout = Layout(settings.host.data)
    has_served = bool(settings.cluster.hosts) and layout.format.exists()
    if has_served:
        step_back()  # before the program is loaded
    from trunkline.host.run import run_group, run_host

    ready = ready_file if ready_file is not None else layout.run / "host.ready"
    if services is None:
        exit_code = run_host(
            settings, ready_file=ready, is_locked=is_locked, has_stepped_back=has_served
        )
    else:
        names = services.split(",")
        exit_code = run_group(settings, names, ready_file=ready, has_stepped_back=has_served)
    raise typer.Exit(exit_code)


def _require_carrier(settings: Settings) -> None:
    if not settings.carrier.url:
        raise ConfigError(
            "this host has no carrier (carrier.url is empty)",
            "name a running simulator with --carrier, or use 'trunkline up', which starts one",
        )
