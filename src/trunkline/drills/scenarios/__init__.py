"""Every drill, in the order in which `--all` runs them. A new one is one file and one row here."""

from collections.abc import Mapping
from typing import Final

from trunkline.drills.scenarios import kill_log_server
from trunkline.drills.stage import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = {each.name: each for each in (kill_log_server.SCENARIO,)}
