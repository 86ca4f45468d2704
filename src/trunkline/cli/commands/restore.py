"""`trunkline restore`: a backup becomes the data folder of a host, checked before it is in place."""

from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli.progress import shown
from trunkline.host import backup, config
from trunkline.host.data_folder import seat_of


def command(
    *,
    source: Annotated[Path, typer.Option("--from", help="What 'trunkline backup' wrote.")],
    data: Annotated[Path | None, typer.Option(help="The new data folder: empty or absent.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
) -> None:
    """Put a backup in place as a data folder. Never run the original and its copy at once."""
    settings = config.load(config_file, {"host.data": data}, config.environment())
    seat = seat_of(settings)
    with shown("restoring") as total:
        header = backup.restore(
            source,
            settings.host.data,
            total=total,
            place=None if seat is None else seat.place,
            brings_log=seat is not None and settings.cluster.hosts[0].name == seat.host,
        )
    print(f"{settings.host.data}: {header.files} files, {header.bytes} bytes, checked")
