"""What a tree of processes costs: CPU seconds and memory, read from /proc (Linux)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """One process at one moment."""

    name: str
    cpu_s: float
    resident_bytes: int


def tree(root: int) -> dict[int, Cost]:
    """`root` and everything below it."""
    found: dict[int, Cost] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        cost = _cost(pid)
        if cost is not None:
            found[pid] = cost
            waiting.extend(_children(pid))
    return found


def memory_bytes(pids: Iterable[int]) -> int:
    """What these processes take together, each page that they share counted once (the kernel's
    proportional set size, of which the sum is that; the sum of resident sizes counts it again and
    again)."""
    return sum(_proportional_bytes(pid) for pid in pids)


def cost_of_self() -> Cost:
    times = os.times()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return Cost("load", times.user + times.system, pages * _PAGE_BYTES)


def _cost(pid: int) -> Cost | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Cost(_name(words), cpu_s, int(fields[21]) * _PAGE_BYTES)


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _name(words: list[str]) -> str:
    """`nats-server`, or the command of ours that the process runs."""
    if Path(words[0]).name == "nats-server":
        return "nats-server"
    for at, word in enumerate(words):
        if word in ("trunkline", "-mtrunkline") or word.endswith("/trunkline"):
            return words[at + 1] if at + 1 < len(words) else word
    return Path(words[0]).name


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(word) for word in task.read_text("ascii").split()]
        except OSError:
            continue
    return children
