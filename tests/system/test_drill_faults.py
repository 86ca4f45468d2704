"""The faults that drills are made of do what they say, on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.running import is_running, wait_until

from trunkline.drills import processes
from trunkline.drills.faults import disks
from trunkline.drills.faults.network import Cut, Network, Seat, mute, reason_against_namespaces
from trunkline.drills.refusal import DrillError

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(60)]

PORT = 9
SLEEP_S = 50
LISTENS = (
    "import socket, sys\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.bind((sys.argv[1], int(sys.argv[2])))\n"
    "print('ready', flush=True)\n"
    "while True: print(s.recv(100).decode(), flush=True)\n"
)
SAYS = (
    "import socket, sys\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))\n"
)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if reason := reason_against_namespaces():
        pytest.skip(reason)
    made = Network.made(2, number=os.getpid())
    try:
        yield made
    finally:
        made.remove()


class Listener:
    """What is heard at a seat."""

    def __init__(self, seat: Seat, heard: Path) -> None:
        self.heard = heard
        with heard.open("wb") as file:
            self.process = subprocess.Popen(
                seat.inside(sys.executable, "-c", LISTENS, seat.address, str(PORT)), stdout=file
            )
        wait_until(lambda: "ready" in heard.read_text(), "the listener")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)


def say(seat: Seat, to: Seat, word: str) -> None:
    argv = seat.inside(sys.executable, "-c", SAYS, to.address, str(PORT), word)
    subprocess.run(argv, check=True, timeout=10)


def test_a_cut_is_one_way_and_heals(network: Network, tmp_path: Path) -> None:
    one, other = network.seats
    cut = Cut(mute(one, [other]))
    listeners = [Listener(one, tmp_path / "one"), Listener(other, tmp_path / "other")]
    try:
        cut.make()
        say(one, other, "lost")
        say(other, one, "heard")
        wait_until(lambda: "heard" in (tmp_path / "one").read_text(), "the other direction")
        cut.heal()
        say(one, other, "healed")
        wait_until(lambda: "healed" in (tmp_path / "other").read_text(), "what is said then")
    finally:
        for listener in listeners:
            listener.stop()

    assert "lost" not in (tmp_path / "other").read_text()


def test_a_cut_that_cannot_be_made_says_why(network: Network) -> None:
    gone = Seat(f"{network.seats[0].namespace}x", "10.0.0.1")

    with pytest.raises(DrillError, match="No such file"):
        Cut(mute(gone, network.seats)).make()


def test_what_was_not_flushed_is_gone_after_a_power_loss(tmp_path: Path) -> None:
    if reason := disks.reason_against_mounts():
        pytest.skip(reason)
    place = tmp_path / "data"
    place.mkdir()
    (place / "before").write_text("moved along")
    disk = disks.FileDisk.made(tmp_path / "image", place)
    try:
        for name in ("flushed", "only-written"):
            with (place / name).open("w") as file:
                file.write("here")
                file.flush()
                if name == "flushed":
                    os.fsync(file.fileno())
        after = disk.after_power_loss()
    finally:
        disk.unmount()
    after.mount()
    try:
        assert (place / "before").read_text() == "moved along"
        assert (place / "flushed").read_text() == "here"
        lost = place / "only-written"
        assert not lost.exists() or lost.read_text() != "here"
    finally:
        after.unmount()


def test_a_whole_tree_is_frozen_thawed_and_killed() -> None:
    program = f"import subprocess; subprocess.run(['sleep', '{SLEEP_S}'])"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        # Stopped between its fork and its exec, a child would hold its parent where it cannot stop.
        wait_until(lambda: "sleep" in processes.tree(process.pid).values(), "the child")
        tree = processes.tree(process.pid)

        processes.send_all(tree, signal.SIGSTOP)
        wait_until(lambda: {state(pid) for pid in tree} == {"T"}, "both to stand still")
        processes.send_all(tree, signal.SIGCONT)
        wait_until(lambda: "T" not in {state(pid) for pid in tree}, "both to go on")

        processes.kill_all(tree)
        process.wait(timeout=10)
        wait_until(lambda: not any(map(is_running, tree)), "both to be gone")
        assert processes.tree(process.pid) == {}
    finally:
        process.kill()
        process.wait(timeout=10)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
