"""Why a host is not ready, in words for whoever was woken by it: what is the matter, what goes on all
the same, and what to do."""

from collections.abc import Mapping, Sequence
from typing import Final

from trunkline.host.membership import State
from trunkline.host.standing import majority_of
from trunkline.host.status import HostLine, ProcessStatus

WORDS: Final[Mapping[str, str]] = {
    "replica": "the read copy has not caught up since the start, or the log is of a newer version; "
    "see 'replica.' in the log of events",
    "draining": "the host is being stopped",
    "log": "the log engine cannot be reached; see run/nats.log in the data folder",
    "room": "the disk is nearly full, so no creates are taken; make room",
    "clock": "this host's clock is wrong, so no creates are taken; set it right",
}
"""By what `/readyz` calls it; `majority` is told with the names of the hosts."""


def reasons(found: Sequence[ProcessStatus]) -> list[str]:
    """One for each thing that is not ready in any process of the host."""
    named = dict.fromkeys(word for each in found for word in each.not_ready)
    hosts = max((each.hosts for each in found), key=len, default=())
    return [f"{word}: {_reason(word, hosts)}" for word in named]


def _reason(word: str, hosts: Sequence[HostLine]) -> str:
    if word != "majority":
        return WORDS.get(word, "see 'when messages stop' in the documentation")
    missing = ", ".join(line.host for line in hosts if is_missing(line))
    heard = sum(not is_missing(line) for line in hosts)
    wanted = majority_of([line.host for line in hosts])
    return (
        f"this host hears {heard} of {len(hosts)} hosts, itself included, and {wanted} are needed to "
        f"accept or to send anything. Reads go on. Not heard: {missing or 'nobody'}. Start them, or "
        "see whether the network between the hosts is cut; the rest follows by itself"
    )


def is_missing(line: HostLine) -> bool:
    """Whether this member is not heard now."""
    return line.state in (State.GONE.value, State.UNKNOWN.value)
