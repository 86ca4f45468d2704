"""What every host shows at the end, asked through the public lists until all of it is there."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import aiohttp

from trunkline.drills.cluster import Account, Host
from trunkline.drills.observer.records import Shown, Summed
from trunkline.kernel import Clock

PAGE_SIZE: Final = 1000
PAGES_MAX: Final = 1000
ASK_S: Final = 20.0
AGAIN_S: Final = 0.5
MICROS: Final = 1_000_000


async def last_look(
    session: aiohttp.ClientSession,
    hosts: Sequence[Host],
    account: Account,
    *,
    expected: Collection[str],
    clock: Clock,
    within_s: float,
) -> list[Shown | Summed]:
    """Every message on every host, and what it says they came to; of a host that misses some, what it
    shows after `within_s`."""
    shown: list[Shown | Summed] = []
    for host in hosts:
        give_up_at = clock.monotonic() + within_s
        while True:
            found = await _messages_of(session, host, account)
            is_whole = set(expected) <= {each.sid for each in found}
            if is_whole or clock.monotonic() >= give_up_at:
                shown += found
                shown += await _sums_of(session, host, account)
                break
            await asyncio.sleep(AGAIN_S)
    return shown


async def _sums_of(session: aiohttp.ClientSession, host: Host, account: Account) -> list[Summed]:
    """One, or none where the host does not answer."""
    path = f"/2010-04-01/Accounts/{account.sid}/Usage/Records/AllTime.json?Category=sms-outbound"
    try:
        async with session.get(
            host.base_url + path,
            auth=aiohttp.BasicAuth(account.sid, account.auth_token),
            timeout=aiohttp.ClientTimeout(total=ASK_S),
        ) as answer:
            answer.raise_for_status()
            (record,) = (await answer.json(content_type=None))["usage_records"]
    except (aiohttp.ClientError, TimeoutError, OSError):
        return []
    return [Summed(host.name, int(record["count"]), round(record["price"] * MICROS))]


async def _messages_of(session: aiohttp.ClientSession, host: Host, account: Account) -> list[Shown]:
    """As far as the host answers."""
    found: list[Shown] = []
    path = f"/2010-04-01/Accounts/{account.sid}/Messages.json?PageSize={PAGE_SIZE}"
    for _ in range(PAGES_MAX):
        try:
            async with session.get(
                host.base_url + path,
                auth=aiohttp.BasicAuth(account.sid, account.auth_token),
                timeout=aiohttp.ClientTimeout(total=ASK_S),
            ) as answer:
                answer.raise_for_status()
                page = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return found
        found += [
            Shown(
                host=host.name,
                sid=each["sid"],
                text=each["body"],
                direction=each["direction"],
                status=each["status"],
                error_code=each["error_code"] or 0,
                price=each["price"] or "",
            )
            for each in page["messages"]
        ]
        path = page["next_page_uri"]
        if not path:
            break
    return found
