"""Every kind of carrier there is: one file and one row each, all passing the shipped contract."""

from collections.abc import Mapping
from typing import Final

from trunkline.messaging.carriers.simulated import SimulatedCarrier

CARRIERS: Final[Mapping[str, type[SimulatedCarrier]]] = {"simulated": SimulatedCarrier}
