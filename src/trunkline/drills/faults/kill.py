"""Sudden death: of a whole host, or of one program of it."""

from trunkline.drills import processes
from trunkline.drills.cluster import LOG_SERVER, Host
from trunkline.drills.refusal import DrillError


def kill_host(host: Host) -> int:
    """SIGKILL to everything that is the host; how many processes that were."""
    found = host.processes()
    processes.kill_all(found)
    return len(found)


def kill_log_server(host: Host) -> int:
    """SIGKILL to the host's log engine alone; its process id."""
    found = [pid for pid, name in host.processes().items() if name == LOG_SERVER]
    if not found:
        raise DrillError(f"{host.name} has no process {LOG_SERVER}", "see what runs below it")
    processes.kill_all(found)
    return found[0]
