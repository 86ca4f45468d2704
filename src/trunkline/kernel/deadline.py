"""A deadline: a moment on the monotonic clock after which nobody waits for the answer."""

from dataclasses import dataclass

from trunkline.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Deadline:
    """An absolute moment of `clock.monotonic()`, made with `after`."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> "Deadline":
        return cls(clock.monotonic() + seconds, clock)

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock.monotonic())

    def has_passed(self) -> bool:
        return self.clock.monotonic() >= self.at
