"""A process that is frozen is put down by the right word, and by nothing else."""

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.host.host_network import MemoryBus

from trunkline.host import put_down
from trunkline.host.listen import Address
from trunkline.host.members import Members
from trunkline.host.membership import TAKEOVER_S, Membership
from trunkline.host.put_down import PutDown, Trap, engine_at, word_for
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs signals of sockets (Linux)")

WORD = word_for("secret", "host-a", "one")
DIES_S = 5.0


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    with victims() as started:
        yield started


@contextlib.contextmanager
def victims() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def trap() -> Iterator[Trap]:
    opened = Trap(Address("127.0.0.1", 0))
    yield opened
    opened.close()


def send(trap: Trap, word: bytes) -> None:
    put_down.send((socket.AF_INET, ("127.0.0.1", trap.port)), word)


@linux_only
def test_a_frozen_process_dies_by_the_word(trap: Trap, victim: subprocess.Popen[bytes]) -> None:
    trap.set(victim.pid, WORD)

    send(trap, WORD)

    assert victim.wait(DIES_S) == -signal.SIGKILL


@linux_only
def test_nothing_else_harms_it(trap: Trap, victim: subprocess.Popen[bytes]) -> None:
    send(trap, WORD)  # before it was set
    trap.set(victim.pid, WORD)
    others = [b"", WORD[:15], WORD[:15] + b"\0", b"\0" + WORD[1:], bytes(65_000)]
    others += [word_for("secret", "host-a", "two"), word_for("secret", "host-b", "one")]
    others += [word_for("other", "host-a", "one")]

    for other in others:
        send(trap, other)
    # Another one dies by what comes behind them, so they have come.
    with victims() as second:
        assert victim.poll() is None
        trap.set(second.pid, WORD)
        send(trap, WORD)
        assert second.wait(DIES_S) == -signal.SIGKILL
    assert victim.poll() is None


@linux_only
def test_who_is_guarded_anew_is_not_harmed_by_the_word_of_before(
    trap: Trap, victim: subprocess.Popen[bytes]
) -> None:
    next_word = word_for("secret", "host-a", "two")
    trap.set(victim.pid, WORD)
    trap.set(victim.pid, next_word)

    send(trap, WORD)
    assert victim.poll() is None
    send(trap, next_word)
    assert victim.wait(DIES_S) == -signal.SIGKILL


@linux_only
def test_a_number_that_was_given_to_another_process_is_no_engine(
    tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    note = tmp_path / "engine.pid"
    assert engine_at(note) is None
    note.write_bytes(b"%d" % victim.pid)
    assert engine_at(note) is None

    conf = str(tmp_path / "nats.conf")
    engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", conf])
    note.write_bytes(b"%d" % engine.pid)
    try:
        give_up_at = time.monotonic() + DIES_S
        while engine_at(note) is None:  # it has been forked, and is not that program yet
            assert time.monotonic() < give_up_at
        assert engine_at(note) == engine.pid
    finally:
        engine.kill()
        engine.wait()
    assert engine_at(note) is None


def test_only_a_host_that_is_dead_is_sent_the_word_and_only_until_it_is_heard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = VirtualClock()
    sent: list[tuple[float, bytes]] = []
    monkeypatch.setattr(put_down, "send", lambda _, word: sent.append((clock.monotonic(), word)))
    monkeypatch.setattr(PutDown, "_open_trap", lambda _: None)

    async def find(address: Address) -> put_down.Place:
        return socket.AF_INET, (address.host, address.port)

    monkeypatch.setattr(put_down, "find", find)

    async def main() -> None:
        names = ("a", "b", "c")
        buses = MemoryBus.joined(len(names))
        members = {
            name: Members(
                bus, Membership(names, name, now=0.0), clock=clock, rng=random.Random(name)
            )
            for name, bus in zip(names, buses, strict=True)
        }
        places = {name: Address("127.0.0.1", 1) for name in names}
        shooter = PutDown(
            members["a"], places, secret="s", engine_pid=tmp_path / "pid", clock=clock
        )
        for name in names:
            members[name].begin(f"{name}1")
            members[name].set_ready()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in members.values()]
            running.append(tasks.create_task(shooter.run()))
            await clock.sleep(10.0)
            assert sent == []

            buses[2].is_cut = True
            cut_at = clock.monotonic()
            await clock.sleep(10.0)
            assert {word for _, word in sent} == {word_for("s", "c", "c1")}
            assert cut_at + TAKEOVER_S - 0.2 <= sent[0][0] <= cut_at + TAKEOVER_S + 1.5
            assert len(sent) > 50

            buses[2].is_cut = False
            await clock.sleep(0.5)
            members["c"].begin("c2")
            sent.clear()
            await clock.sleep(10.0)
            assert sent == []
            for task in running:
                task.cancel()

    run_in_virtual_time(main())
