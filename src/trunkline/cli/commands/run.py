"""`trunkline run -- COMMAND`: an unmodified program speaks to this cluster, and survives its hosts."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from trunkline.host import config, credentials, status
from trunkline.host.layout import Layout, base_urls_of
from trunkline.host.refusal import FlagError, HostError
from trunkline.kernel import SystemClock
from trunkline.redirect import conduct
from trunkline.redirect.variables import Login


class NotLedError(HostError):
    """The program cannot be led here, or there is nothing to lead it to."""


def command(
    argv: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="-- COMMAND...")
    ],
    *,
    hosts: Annotated[
        str | None,
        typer.Option(help="The hosts' addresses or URLs, with commas between.", metavar="A,B,C"),
    ] = None,
    account_sid: Annotated[
        str | None, typer.Option(help="For the program, in place of its environment's.")
    ] = None,
    auth_token: Annotated[
        str | None, typer.Option(help="For the program, in place of its environment's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data folder that hosts and credentials are read from.")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
) -> None:
    """Run a program that was written for Twilio, unchanged, against this cluster. Its requests are led
    to a host that answers, and repeated where that is safe. Ends with the program's exit code."""
    if (account_sid is None) != (auth_token is None):
        raise FlagError(
            "one of --account-sid and --auth-token is given without the other", "give both or none"
        )
    environ = config.environment()
    settings = config.load(config_file, {"host.data": data}, environ)
    layout = Layout(settings.host.data)
    order = conduct.Order(
        argv=tuple(argv),
        hosts=_named(hosts) if hosts is not None else _running(layout),
        login=_login(layout, account_sid, auth_token),
        environ=environ,
    )
    raise typer.Exit(_conducted(order))


def _conducted(order: conduct.Order) -> int:
    import uvloop

    rng = random.Random()  # noqa: S311 - for pauses and choices, not for secrets
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(conduct.run(order, clock=SystemClock(), rng=rng, say=_say))
    except conduct.RunRefused as refusal:
        raise NotLedError(refusal.cause, refusal.mend) from refusal


def _say(what: str) -> None:
    sys.stderr.write(f"trunkline run: {what}\n")
    sys.stderr.flush()


def _named(hosts: str) -> tuple[str, ...]:
    found = []
    for name in filter(None, (part.strip() for part in hosts.split(","))):
        url = name if "://" in name else f"http://{name}"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise FlagError(f"--hosts has {name!r}", "give HOST:PORT, or an http or https URL")
        found.append(f"{parts.scheme}://{parts.netloc}")
    if not found:
        raise FlagError("--hosts names none", "give HOST:PORT, or several with commas between")
    return tuple(dict.fromkeys(found))


def _running(layout: Layout) -> tuple[str, ...]:
    """The hosts that run on the data folder, and those that they see."""
    wall = SystemClock().wall()
    seen = [line for each in status.read(layout.run, wall=wall) for line in each.hosts]
    found = dict.fromkeys(
        (*base_urls_of(layout.data), *(line.base_url for line in seen if line.base_url))
    )
    if not found:
        raise NotLedError(
            f"no host of a cluster runs on {layout.data}",
            "name the hosts with --hosts, or start one with 'trunkline up'",
        )
    return tuple(found)


def _login(layout: Layout, account_sid: str | None, auth_token: str | None) -> Login | None:
    """What was given, or what the data folder has; without either the program has its own."""
    if account_sid is not None and auth_token is not None:
        return Login(account_sid, auth_token, is_given=True)
    try:
        known = credentials.require(layout)
    except HostError:
        return None
    return Login(known.account_sid, known.auth_token, is_given=False)
