"""Leases: which process an attempt belongs to, and whether that process can still act."""

from typing import Protocol


class Leases(Protocol):
    """A lease names one incarnation of one process. A dead one never becomes live again."""

    @property
    def own(self) -> str:
        """This process's lease."""

    def is_own_valid(self) -> bool:
        """Whether this process may still act; checked right before every hand-over."""

    def is_live(self, lease: str) -> bool:
        """Whether the process behind `lease` may still act. A frozen one may."""
