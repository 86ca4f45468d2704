"""All commands, in the order in which help shows them. A new one is one file and one row here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    """`module` has a function `command`; the summary is what `trunkline --help` says of it."""

    module: str
    summary: str
    is_hidden: bool = False


COMMANDS: Final[Mapping[str, Command]] = {
    "up": Command("trunkline.cli.commands.up", "Run a host here, with a simulated carrier."),
    "status": Command(
        "trunkline.cli.commands.status", "Show what a host does, and what it sees of its cluster."
    ),
    "message": Command(
        "trunkline.cli.commands.message", "Show what happened to a message, event by event."
    ),
    "webhooks": Command(
        "trunkline.cli.commands.webhooks",
        "Show which status callbacks wait or were given up, and tell one again.",
    ),
    "run": Command(
        "trunkline.cli.commands.run", "Run a program written for Twilio against this cluster."
    ),
    "credentials": Command(
        "trunkline.cli.commands.credentials", "Show a host's account, token and phone number."
    ),
    "phone": Command(
        "trunkline.cli.commands.phone", "Be a phone of the simulated carrier: read and send."
    ),
    "simulator": Command("trunkline.cli.commands.simulator", "Run the simulated carrier alone."),
    "drill": Command(
        "trunkline.cli.commands.drill", "Hurt hosts on purpose, and count what became of it."
    ),
    "backup": Command("trunkline.cli.commands.backup", "Write a stopped host's data to one file."),
    "restore": Command("trunkline.cli.commands.restore", "Put a backup in place as a new host."),
    "doctor": Command(
        "trunkline.cli.commands.doctor", "Show every setting and bound, and what is wrong here."
    ),
    "version": Command("trunkline.cli.commands.version", "Show the version."),
    "host": Command(
        "trunkline.cli.commands.host", "Run one host process; 'up' does this.", is_hidden=True
    ),
}
