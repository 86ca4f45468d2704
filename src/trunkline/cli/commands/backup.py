"""`trunkline backup`: the whole data folder of a stopped host, in one checked file."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli.progress import shown
from trunkline.host import backup, config
from trunkline.kernel import SystemClock


def command(
    *,
    to: Annotated[Path, typer.Option(help="The file to write, such as host-1.tar.gz.")],
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
) -> None:
    """Write a stopped host's data to one file, and check it. It holds the auth token."""
    settings = config.load(config_file, {"host.data": data}, config.environment())
    with shown("backing up") as total:
        header = backup.back_up(settings.host.data, to, clock=SystemClock(), total=total)
    print(f"{to}: {header.files} files, {header.bytes} bytes, checked")
