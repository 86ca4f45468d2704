"""`trunkline credentials`: read from the data folder, so it works whether or not the host runs."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from trunkline.host import config, credentials
from trunkline.host.layout import Layout


def command(
    *,
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a host's account SID, auth token and first phone number."""
    settings = config.load(config_file, {"host.data": data}, config.environment())
    found = credentials.require(Layout(settings.host.data))
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return
    print(f"account SID   {found.account_sid}")
    print(f"auth token    {found.auth_token}")
    print(f"phone number  {found.phone_number}")
