"""What a new cluster holds before anybody asked for anything: one account, with one number."""

from typing import Final

from trunkline.directory.accounts import open_account
from trunkline.directory.numbers import own_number
from trunkline.directory.records import Undecidable
from trunkline.domain.events import AccountOpened, NumberOwned
from trunkline.domain.sid import PHONE_NUMBER, sid_from_key
from trunkline.host.credentials import Credentials
from trunkline.host.refusal import EngineError
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log

BIRTH_DEADLINE_S: Final = 10.0
CLUSTER_BIRTH_DEADLINE_S: Final = 60.0
"""In a cluster a shard may be choosing its leader, which takes 4-9 s, and may take several turns
while other hosts come and go."""


async def give_birth(
    log: Log, credentials: Credentials, *, author: Author, within_s: float = BIRTH_DEADLINE_S
) -> None:
    """Write the first account and its first number; a repeat finds them, also one from another host, or
    what has become of the number since: it may be given back, moved, or somebody else's. Raises
    `EngineError` if that cannot be told after `within_s`."""
    opened = AccountOpened(
        sid=credentials.account_sid,
        friendly_name="First account",
        auth_token=credentials.auth_token,
    )
    deadline = Deadline.after(within_s, author.clock)
    is_open = await open_account(log, opened, author=author, deadline=deadline)
    number = NumberOwned(
        sid=sid_from_key(PHONE_NUMBER, credentials.account_sid, credentials.phone_number),
        phone_number=credentials.phone_number,
        friendly_name=credentials.phone_number,
    )
    owned = await own_number(log, credentials.account_sid, number, author=author, deadline=deadline)
    if not is_open or isinstance(owned, Undecidable):
        raise EngineError(
            "the log engine did not take the first account", "see run/nats.log in the data folder"
        )
