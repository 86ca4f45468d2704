"""Children that die with their parent, so that `kill -9` of a host leaves nothing behind.

A child of ours calls `die_with_parent` first thing; a program that is not ours is started as
`leashed` says. Both must be started from the parent's main thread: Linux sends the signal when the
*thread* that forked ends (prctl(2), PR_SET_PDEATHSIG). Elsewhere the child's standard input is a
pipe from its parent, and its end is the news.
"""

import ctypes
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

HAS_PARENT_DEATH_SIGNAL: Final = sys.platform == "linux"

DISMISSAL: Final = b"\n"
"""What the parent writes to a leashed child's standard input, where that is a pipe, once the child
has ended: the watcher beside it must not kill whatever gets the process id next."""

_PR_SET_PDEATHSIG: Final = 1
_STDIN: Final = 0
_ORPHANED_EXIT_CODE: Final = 1

# A shell that becomes the child: `$$` keeps its value through `exec`, so the watcher it leaves
# behind knows the child's process id from the start. A line on the pipe dismisses the watcher, the
# end of the pipe makes it kill. POSIX shells need only know descriptors of one digit.
_WATCHER: Final = (
    'exec 3<&0 </dev/null; { read -r _ <&3 || kill -9 $$; } >/dev/null 2>&1 & exec "$@" 3<&-'
)


@dataclass(frozen=True, slots=True)
class Leashed:
    """How to start a program that dies with us: its command line, and keyword arguments that
    `subprocess.Popen` and `asyncio.create_subprocess_exec` both take."""

    argv: tuple[str, ...]
    arguments: Mapping[str, Any]


def die_with_parent(*, portable: bool = not HAS_PARENT_DEATH_SIGNAL) -> None:
    """From now on this process ends, at once and without clean-up, when its parent does.

    Where standard input is a pipe, a parent that died before this call is noticed too.
    """
    if not portable:
        parent = os.getppid()
        _parent_death_signal()()
        if os.getppid() != parent or _is_cut_off():
            os._exit(_ORPHANED_EXIT_CODE)
        return
    if _is_pipe():
        threading.Thread(target=_exit_at_end_of_input, name="lifeline", daemon=True).start()


def leashed(argv: Sequence[str], *, portable: bool = not HAS_PARENT_DEATH_SIGNAL) -> Leashed:
    """How to start `argv` so that it dies with this process. The portable way leaves a pipe to the
    child's standard input with the parent: write `DISMISSAL` to it when the child has ended."""
    if portable:
        return Leashed(("/bin/sh", "-c", _WATCHER, "lifeline", *argv), {"stdin": subprocess.PIPE})
    set_signal = _parent_death_signal()
    parent = os.getpid()

    def before_exec() -> None:
        set_signal()
        if os.getppid() != parent:
            os._exit(_ORPHANED_EXIT_CODE)

    return Leashed(tuple(argv), {"stdin": subprocess.DEVNULL, "preexec_fn": before_exec})


def _parent_death_signal() -> Callable[[], object]:
    # The library and the function are looked up here, before any fork: the loader takes locks.
    prctl = ctypes.CDLL(None).prctl
    arguments = (ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    return lambda: prctl(*arguments)


def _is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(_STDIN).st_mode)
    except OSError:
        return False


def _is_cut_off() -> bool:
    """Whether standard input is a pipe that nobody holds the other end of any more."""
    if not _is_pipe():
        return False
    poll = select.poll()
    poll.register(_STDIN, select.POLLHUP)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _exit_at_end_of_input() -> None:
    while os.read(_STDIN, 4096):
        pass
    os._exit(_ORPHANED_EXIT_CODE)
