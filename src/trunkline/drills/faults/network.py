"""Networks of a drill's own, one for each host, that can be cut in either direction.

Each host runs in a network namespace with one cable to a bridge; the drill, the carrier and the
application are at the bridge. A direction is cut at its sender, by a wrong permanent entry for the
other one's address in its neighbour table: packets go out to a card that nobody has. That drops them
in silence, also those of open connections, as a broken switch does, and needs no firewall.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.drills.processes import Batch, run_tool
from trunkline.drills.refusal import DrillError

NOBODY: Final = "02:00:00:00:de:ad"
INNER: Final = "host0"
"""What the cable is called at the host's end."""
NAME_LETTERS: Final = 6


def reason_against_namespaces() -> str:
    """Why no network of our own can be made here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it makes networks of its own: run it as root on Linux"
    if shutil.which("ip") is None:
        return "the program 'ip' is missing: install iproute2"
    try:
        run_tool("ip", "netns", "add", _PROBE)
        run_tool("ip", "netns", "delete", _PROBE)
    except DrillError as error:
        return f"this kernel makes no network namespaces ({error.what})"
    return ""


_PROBE: Final = f"tlp{os.getpid() % 1_000_000}"


@dataclass(frozen=True, slots=True)
class Seat:
    """One host's place: the namespace that it runs in, and its address."""

    namespace: str
    address: str

    def inside(self, *argv: str) -> list[str]:
        """The command line of a program that is to run there."""
        return ["ip", "netns", "exec", self.namespace, *argv]


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge in this namespace, and a seat for each host."""

    name: str
    address: str
    """Ours, at the bridge."""
    seats: tuple[Seat, ...]

    @staticmethod
    def made(count: int, *, number: int) -> "Network":
        """`number` tells networks on one machine apart. Undone by `remove`, also half made."""
        network = Network.named(count, number=number)
        try:
            network._make()
        except DrillError:
            network.remove()
            raise
        return network

    @staticmethod
    def named(count: int, *, number: int) -> "Network":
        """The one that is made for these, whether or not it is there."""
        name = f"tl{number % 10**NAME_LETTERS}"
        subnet = f"10.{77 + number % 100}.{number % 251}"
        seats = tuple(
            Seat(f"{name}-{each}", f"{subnet}.{10 + each}") for each in range(1, count + 1)
        )
        return Network(name, f"{subnet}.1", seats)

    def _make(self) -> None:
        run_tool("ip", "link", "add", self.name, "type", "bridge")
        run_tool("ip", "address", "add", f"{self.address}/24", "dev", self.name)
        run_tool("ip", "link", "set", self.name, "up")
        for seat in self.seats:
            cable = f"{seat.namespace}v"
            run_tool("ip", "netns", "add", seat.namespace)
            run_tool(
                "ip",
                "link",
                "add",
                cable,
                "type",
                "veth",
                "peer",
                "name",
                INNER,
                "netns",
                seat.namespace,
            )
            run_tool("ip", "link", "set", cable, "master", self.name, "up")
            within = ("ip", "-n", seat.namespace)
            run_tool(*within, "link", "set", "lo", "up")
            run_tool(*within, "address", "add", f"{seat.address}/24", "dev", INNER)
            run_tool(*within, "link", "set", INNER, "up")

    def remove(self) -> None:
        """As far as it is there; the processes in it must have ended."""
        for seat in self.seats:
            _try_tool("ip", "netns", "delete", seat.namespace)
        _try_tool("ip", "link", "delete", self.name)


@dataclass(frozen=True, slots=True)
class Direction:
    """What `sender` says to each of `receivers`."""

    sender: Seat
    receivers: tuple[Seat, ...]


def mute(seat: Seat, others: Sequence[Seat]) -> list[Direction]:
    """What must be cut so that the others hear nothing of `seat`."""
    return [Direction(seat, tuple(others))]


def deaf(seat: Seat, others: Sequence[Seat]) -> list[Direction]:
    """What must be cut so that `seat` hears nothing of the others."""
    return [Direction(each, (seat,)) for each in others]


class Cut:
    """Directions that are cut at one moment, and healed later.

    The tools that cut are started before and wait for their words, since on a busy machine a program
    takes longer to start than some of what is measured in a cut.
    """

    def __init__(self, directions: Sequence[Direction]) -> None:
        self._directions = directions
        self._tools = [
            Batch("ip", "-n", each.sender.namespace, "-batch", "-") for each in directions
        ]

    def make(self) -> None:
        """From now on nothing that the senders say reaches their receivers. To be called once; raises
        `DrillError`."""
        words = [
            "".join(
                f"neighbour replace {receiver.address} lladdr {NOBODY} dev {INNER} nud permanent\n"
                for receiver in direction.receivers
            )
            for direction in self._directions
        ]
        for tool, said in zip(self._tools, words, strict=True):
            tool.give(said)
        for tool in self._tools:
            tool.end()

    def heal(self) -> None:
        """Let it through again. Raises `DrillError`."""
        for direction in self._directions:
            for receiver in direction.receivers:
                run_tool(
                    "ip", "-n", direction.sender.namespace,
                    "neighbour", "delete", receiver.address, "dev", INNER,
                )  # fmt: skip


def _try_tool(*argv: str) -> None:
    try:
        run_tool(*argv)
    except DrillError:
        return  # it was not there
