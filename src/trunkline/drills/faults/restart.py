"""A restart in good order: the host is asked to stop, and whoever watches it starts it again."""

import signal

from trunkline.drills import processes
from trunkline.drills.cluster import Host


def ask_to_stop(host: Host) -> None:
    """SIGTERM to the host's first process, which ends the others."""
    processes.send_all([host.pid], signal.SIGTERM)
