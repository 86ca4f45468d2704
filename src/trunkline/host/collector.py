"""The collector of cycles, in a process that serves: it need not look at what stays.

A host makes some hundred objects for a message and lets go of nearly all by counting references. But the
collector looks at every survivor of each 700, and now and then at all there is, some hundred thousand
objects of libraries and tables that live as long as the process: 60 ms during which nothing is
answered. Cycles are rare here, and `make bench-serve` shows none on the path of a create.
"""

import gc
from typing import Final

YOUNG_OBJECTS_MAX: Final = 5_000
"""Container objects made and not let go of before the collector looks at them, which takes it some 5
ms; with 20,000 it looked as often as was worth it, and took 10 to 35 ms each time."""


def settle() -> None:
    """What exists now stays: call it once, when everything is built and before it serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])
