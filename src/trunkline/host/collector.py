"""The collector of cycles, in a process that serves: it need not look at what stays.

A host makes some hundred objects for a message and lets go of nearly all by counting references. But the
collector looks at every survivor of each 700, and now and then at all there is, some hundred thousand
objects of libraries and tables that live as long as the process: 60 ms during which nothing is
answered. Cycles are rare here, and `make bench-serve` shows none on the path of a create.
"""

import gc
from typing import Final

YOUNG_OBJECTS_MAX: Final = 20_000
"""Container objects made and not let go of before the collector looks at them: a few megabytes, and
more than thousands of messages under way are made of."""


def settle() -> None:
    """What exists now stays: call it once, when everything is built and before it serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])
