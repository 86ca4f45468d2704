"""Only the outermost layer retries: three layers of three tries each would be twenty-seven.

A `Pool` that may repeat an act says so to everything the act calls in this process. A server says
so with `retried_above` when a request carries `RETRIED_HEADER`.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar, Token
from typing import Final

RETRIED_HEADER: Final = "X-Retried-Above"
"""Present, whatever its value, on requests whose sender will try again elsewhere."""

_is_retried: ContextVar[bool] = ContextVar("trunkline_is_retried_above", default=False)


def is_retried_above() -> bool:
    """Whether a caller up the stack repeats what fails here."""
    return _is_retried.get()


@contextlib.contextmanager
def retried_above() -> Iterator[None]:
    """Pools called inside try once."""
    token = enter()
    try:
        yield
    finally:
        leave(token)


def enter() -> Token[bool]:
    """`retried_above` in two halves, for the path where a context manager would cost too much."""
    return _is_retried.set(True)


def leave(token: Token[bool]) -> None:
    _is_retried.reset(token)
