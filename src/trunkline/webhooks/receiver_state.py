"""A receiver that failed last, as the process that tries to tell it knows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """`failures` are those since its last success; `tried_in_s` is 0 while it is tried."""

    receiver: str
    failures: int
    down_for_s: float
    last_error: str
    tried_in_s: float
