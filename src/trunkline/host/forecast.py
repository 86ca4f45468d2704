"""How full the log will be, and when trimming frees what: from what the retention found last.

Each function gives what there is to say, and what to do about it; that is empty where all is well.
"""

from typing import Final

from trunkline.host.retain import Found
from trunkline.host.setting_kinds import MIB
from trunkline.log.limits import CREATES_SHARE

RESOURCE_MEMORY_BYTES: Final = 600
"""What the engine holds in memory for a message in the log, whatever it holds on disk: `make
bench-retention` shows 565 MiB for a million of them."""

STALE_AFTER_S: Final = 3_600.0
BEHIND_AFTER_S: Final = 24 * 3_600.0
"""Trimming runs a snapshot's age and some minutes behind `log.retain_h`; a day is more than that."""

SOON_S: Final = 7 * 86_400.0
LONGEST_TOLD_S: Final = 365 * 86_400.0


def fill(found: Found) -> tuple[str, str]:
    """What the log holds, for what that lasts, and whether its room is enough."""
    memory = found.resources * RESOURCE_MEMORY_BYTES
    what = (
        f"{found.messages:,} messages of {found.resources:,} resources in {_mib(found.bytes)} of "
        f"{_mib(found.bytes_max)}, the fullest shard to {found.fullest:.0%}; "
        f"{found.bytes // max(1, found.resources):,} bytes of disk each, and about {_mib(memory)} "
        "of the engine's memory for all"
    )
    growth = growth_per_s(found)
    if growth <= 0.0:
        return f"{what}; nothing comes", ""
    held = growth * found.retain_s
    memory_held = held / max(1, found.bytes) * memory
    what = (
        f"{what}. At the pace of the last {_span(found.recent_s)}, trimming holds it at "
        f"{_mib(held)} of disk and {_mib(memory_held)} of memory"
    )
    room = CREATES_SHARE * found.bytes_max
    if found.fullest < CREATES_SHARE and held <= room:
        return what, ""
    wanted = -(-int(max(held, found.bytes) / CREATES_SHARE * 1.25) // (256 * MIB)) * 256
    full_in_s = max(0.0, (room - found.bytes) / growth)
    when = "now" if found.fullest >= CREATES_SHARE else f"in about {_span(full_in_s)}"
    return f"{what}; creates are refused {when}", f"raise log.bytes_max to {wanted}MiB"


def trimming(found: Found, now: float) -> tuple[str, str]:
    """How old the log is, when the next part of it goes, and whom that waits for."""
    if now - found.at > STALE_AFTER_S:
        return f"no pass for {_span(now - found.at)}: no host runs here", ""
    if found.oldest_at is None:
        return "nothing is old enough to be looked at", ""
    age_s, growth = now - found.oldest_at, growth_per_s(found)
    over_s = age_s - found.retain_s
    what = f"the oldest part of the log is {_span(age_s)} old"
    if over_s <= 0.0:
        return f"{what}, and goes in {_span(-over_s)}; then {_mib(growth * 86_400.0)} a day", ""
    if over_s <= BEHIND_AFTER_S:
        return f"{what}, and goes as it comes to {_span(found.retain_s)}", ""
    freed = min(growth * over_s, float(found.bytes))
    what = (
        f"{what}, and waits for {found.waiting_for!r}, which is not past sequence "
        f"{found.waiting_sequence + 1} of shard {found.waiting_shard}; about {_mib(freed)} would go"
    )
    return what, "see 'A full log' in docs/how-to/when-messages-stop.md"


def growth_per_s(found: Found) -> float:
    """Bytes a second, at the pace of the last hours."""
    if found.recent_s <= 0.0 or found.messages <= 0:
        return 0.0
    return found.recent_messages / found.recent_s * found.bytes / found.messages


def _mib(count: float) -> str:
    return f"{count / MIB:,.0f} MiB"


def _span(seconds: float) -> str:
    if seconds >= LONGEST_TOLD_S:
        return "over a year"
    if seconds >= SOON_S:
        return f"{seconds / 86_400.0:.0f} days"
    if seconds >= 2 * 3_600.0:
        return f"{seconds / 3_600.0:.0f} h"
    return f"{max(0.0, seconds) / 60.0:.0f} min"
