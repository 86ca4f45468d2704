"""A stand-still: every process of a host is stopped where it is, and goes on later as if nothing was."""

from trunkline.drills import processes
from trunkline.drills.cluster import LOG_SERVER, Host
from trunkline.drills.refusal import DrillError


def freeze(host: Host) -> dict[int, str]:
    """SIGSTOP to everything that is the host; what is to be thawed."""
    found = host.processes()
    processes.send_all(found, processes.FREEZE)
    # What was started between the look and the signal.
    later = {pid: name for pid, name in host.processes().items() if pid not in found}
    processes.send_all(later, processes.FREEZE)
    return found | later


def thaw(frozen: dict[int, str]) -> None:
    """SIGCONT to each."""
    processes.send_all(frozen, processes.CONTINUE)


def freeze_log_server(host: Host) -> dict[int, str]:
    """SIGSTOP to the host's log engine alone; what is to be thawed."""
    found = {pid: name for pid, name in host.processes().items() if name == LOG_SERVER}
    if not found:
        raise DrillError(f"{host.name} has no process {LOG_SERVER}", "see what runs below it")
    processes.send_all(found, processes.FREEZE)
    return found
