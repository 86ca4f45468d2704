"""Opening an account: one event under its own SID, the same however often it is repeated."""

from trunkline.domain.events import AccountOpened, Kind
from trunkline.log.append import Appended, Draft, Found, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.interface import Log


async def open_account(
    log: Log, opened: AccountOpened, *, author: Author, health: ShardHealth
) -> bool:
    """Whether the account exists now."""
    draft = Draft(
        kind=Kind.ACCOUNT,
        sid=opened.sid,
        account=opened.sid,
        body=opened,
        is_keyed=True,
    )
    return isinstance(await append(log, draft, author=author, health=health), Appended | Found)
