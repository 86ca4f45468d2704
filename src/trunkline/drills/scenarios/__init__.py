"""Every drill, in the order in which `--all` runs them. A new one is one file and one row here."""

from collections.abc import Mapping
from typing import Final

from trunkline.drills.scenarios import (
    backlog,
    disk_full,
    freeze_host,
    freeze_log_server,
    kill_host,
    kill_log_server,
    lose_disk,
    partition,
    power_loss,
    receipt_chaos,
    retry_storm,
    rolling_restart,
    silent_carrier,
    slow_carrier,
)
from trunkline.drills.stage import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = {
    each.name: each
    for each in (
        kill_host.SCENARIO,
        kill_log_server.SCENARIO,
        backlog.SCENARIO,
        freeze_host.SCENARIO,
        freeze_log_server.SCENARIO,
        rolling_restart.SCENARIO,
        partition.SCENARIO,
        partition.ONE_WAY,
        lose_disk.SCENARIO,
        power_loss.SCENARIO,
        disk_full.SCENARIO,
        slow_carrier.SCENARIO,
        silent_carrier.SCENARIO,
        receipt_chaos.SCENARIO,
        retry_storm.SCENARIO,
    )
}
