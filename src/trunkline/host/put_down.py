"""The log engine of a host that is given up is put down, also while everything there is frozen.

An engine that was frozen or cut off comes back with its election timers long expired: it asks for
votes in a new term, and for that the leaders of shards that were well step down; some of them are
without a leader for seconds more. One that was killed comes back as a follower and disturbs nobody.
So the others see to it that it was killed before it wakes (field term: STONITH, "shoot the other
node in the head").

Each host keeps a UDP socket. The kernel itself answers what comes there by killing the engine
(`F_SETSIG`, `O_ASYNC`), whether or not any process of the host runs; a filter in the kernel
(`SO_ATTACH_FILTER`) lets only the word through that belongs to the host's present incarnation. Whoever
may call that incarnation dead sends the word, again and again until the host is heard: a frozen
engine dies at once, one that was cut off when the cut is over. Its own host starts another one.

Where the system has no such signals (not Linux), or the port is taken, nothing is put down.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import hmac
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from trunkline.host.listen import Address
from trunkline.host.members import Members
from trunkline.host.membership import State
from trunkline.kernel import Clock

log: Final = structlog.get_logger(__name__)

EVERY_S: Final = 0.1
"""Between two words: well below the second after which engines that were cut off connect again."""

PRESSED_S: Final = 60.0
"""For so long after it was last heard. A frozen host needs one word, and one that is off needs none."""

LOOK_EVERY_S: Final = 0.5
"""Between two looks at whom to guard, and two words to one that is away for longer."""

WORD_BYTES: Final = 16
UDP_HEADER_BYTES: Final = 8

_F_SETSIG: Final = 10
_SO_ATTACH_FILTER: Final = 26
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_WHOLE: Final = 0xFFFF


Place = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""An address family, and a socket's address in it."""


def word_for(secret: str, host: str, incarnation: str) -> bytes:
    """What puts down the engine of this incarnation of `host`, and of no other."""
    about = f"put down\0{host}\0{incarnation}".encode()
    return hmac.new(secret.encode(), about, hashlib.sha256).digest()[:WORD_BYTES]


class Trap:
    """The socket of this host. `guards` nobody until it is set."""

    def __init__(self, address: Address) -> None:
        """Raises `OSError` where the port is taken or the name unknown."""
        family, _, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM
        )[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(place)
            self._let_through(None)
        except OSError:
            self._socket.close()
            raise

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def set(self, pid: int, word: bytes) -> None:
        """Have the process killed when `word` comes. Raises `OSError` if there is none."""
        self._let_through(word)
        with contextlib.suppress(OSError):
            while True:  # of an earlier word; now the filter holds
                self._socket.recv(WORD_BYTES)
        fcntl.fcntl(self._socket, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(self._socket, fcntl.F_SETOWN, pid)
        flags = fcntl.fcntl(self._socket, fcntl.F_GETFL)
        fcntl.fcntl(self._socket, fcntl.F_SETFL, flags | os.O_ASYNC)

    def close(self) -> None:
        self._socket.close()

    def _let_through(self, word: bytes | None) -> None:
        """Nothing else, or nothing at all: classic BPF, as packet(7) and bpf(2) have it."""
        steps = [(_RETURN, 0, 0, 0)]
        if word is not None:
            parts = struct.unpack(f">{WORD_BYTES // 4}I", word)
            steps = []
            for number, part in enumerate(parts):
                refuse = 2 * (len(parts) - number) - 1
                steps.append((_LOAD_WORD, 0, 0, UDP_HEADER_BYTES + 4 * number))
                steps.append((_JUMP_IF_EQUAL, 0, refuse, part))
            steps += [(_RETURN, 0, 0, _WHOLE), (_RETURN, 0, 0, 0)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        program = struct.pack("HL", len(steps), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class PutDown:
    """Use as a support of the process that speaks for its host: `run` until cancelled. `places` says
    where each host's trap is; `engine_pid` is the file in which the own engine's process stands."""

    name = "put_down"

    def __init__(
        self,
        members: Members,
        places: Mapping[str, Address],
        *,
        secret: str,
        engine_pid: Path,
        clock: Clock,
    ) -> None:
        self._members = members
        self._places = places
        self._secret = secret
        self._engine_pid = engine_pid
        self._clock = clock
        self._found: dict[str, Place] = {}
        self._guarded = (0, "")
        self._put_down: dict[str, str] = {}
        """Of each host the incarnation that was last put down."""

    async def run(self) -> None:
        """Until cancelled."""
        trap = self._open_trap()
        for host, place in self._places.items():
            with contextlib.suppress(OSError):
                self._found[host] = await find(place)
        try:
            while True:
                if trap is not None:
                    self._guard(trap)
                is_pressed = self._shoot()
                await self._clock.sleep(EVERY_S if is_pressed else LOOK_EVERY_S)
        finally:
            if trap is not None:
                trap.close()

    def _open_trap(self) -> Trap | None:
        if sys.platform != "linux":
            return None
        try:
            return Trap(self._places[self._members.own])
        except OSError as error:
            log.warning("put_down.no_trap", reason=str(error))
            return None

    def _guard(self, trap: Trap) -> None:
        """Only who is heard may be put down later: one that comes back is not, before the others
        have heard that it is another one."""
        incarnation = self._members.incarnation
        pid = engine_at(self._engine_pid)
        wanted = (pid or 0, incarnation)
        if pid is None or wanted == self._guarded or not self._members.may_act(incarnation):
            return
        try:
            trap.set(pid, word_for(self._secret, self._members.own, incarnation))
        except OSError as error:  # it has just ended; the next look finds its successor
            log.info("put_down.not_guarded", reason=str(error))
            return
        self._guarded = wanted

    def _shoot(self) -> bool:
        """Whether one was sent to that was there a short while ago."""
        is_pressed = False
        for host, member in self._members.view().members.items():
            if host == self._members.own or member.is_heard or member.state is not State.GONE:
                continue
            if not self._members.is_dead(host, member.incarnation):
                continue
            if self._put_down.get(host) != member.incarnation:
                self._put_down[host] = member.incarnation
                log.warning("put_down.sent", member=host, unheard_s=round(member.unheard_s, 1))
            place = self._found.get(host)
            if place is not None:
                send(place, word_for(self._secret, host, member.incarnation))
                is_pressed |= member.unheard_s < PRESSED_S
        return is_pressed


async def find(address: Address) -> Place:
    """Where a host's trap is. Raises `OSError` for a name that cannot be found."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    family, _, _, _, place = found[0]
    return family, place


def send(place: Place, word: bytes) -> None:
    """One datagram. Nobody knows whether it arrives, so it is sent again."""
    family, where = place
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as speaking:
        speaking.setblocking(False)
        speaking.sendto(word, where)


def engine_at(path: Path) -> int | None:
    """The process of the engine that `path` speaks of, if it still is one. A number may have been
    given to another process since."""
    try:
        pid = int(path.read_bytes())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    conf = str(path.with_name("nats.conf"))
    return pid if conf.encode() in command.split(b"\0") else None
