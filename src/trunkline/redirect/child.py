"""The program itself: it has our terminal, gets our signals, and its end is ours."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_PASSED_ON: Final = tuple(
    getattr(signal, name)
    for name in (
        "SIGTERM",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCONT",
        "SIGWINCH",
    )
    if hasattr(signal, name)
)
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
"""A terminal sends these to every process in its foreground, so the program has had its own."""
SIGNALLED: Final = 128
"""What a shell adds to the number of the signal that ended a program."""


async def run(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start it, and wait for its end; its exit code, as a shell tells it. Raises `OSError` where it
    cannot be started."""
    process = await asyncio.create_subprocess_exec(*argv, env=dict(environment))
    with _passing_on(process):
        code = await process.wait()
    return SIGNALLED - code if code < 0 else code


@contextlib.contextmanager
def _passing_on(process: asyncio.subprocess.Process) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def pass_on(number: int) -> None:
        if number in _FROM_TERMINAL and _is_in_foreground():
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    for number in _PASSED_ON:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number in _PASSED_ON:
            loop.remove_signal_handler(number)


def _is_in_foreground() -> bool:
    for stream in (sys.stdin, sys.stderr):
        try:
            if stream is not None and os.tcgetpgrp(stream.fileno()) == os.getpgrp():
                return True
        except (OSError, ValueError):
            continue
    return False
