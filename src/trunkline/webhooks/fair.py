"""A room that no one fills alone: everybody may have twice what is left free.

Alone, one has two thirds of it at most, so that there is always room for whoever comes; two have two
fifths each, ten have a twenty-first part of it twice. Nobody has to be put out for that, which requests
that are under way cannot be (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
packet switches").
"""

from collections import Counter
from typing import Final

FREE_FACTOR: Final = 2


class FairRoom:
    """Places taken, by name. Bounded by `places`."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: Counter[str] = Counter()

    @property
    def free(self) -> int:
        return self._places - self._taken.total()

    def has_place(self, name: str) -> bool:
        """Whether `name` may take one more."""
        return self._taken[name] < FREE_FACTOR * self.free

    def take(self, name: str) -> None:
        """One more for `name`. The caller has asked `has_place`."""
        self._taken[name] += 1

    def give_back(self, name: str) -> None:
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
