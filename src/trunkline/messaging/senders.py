"""Whose number a message that was accepted long ago would go out from."""

from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline.log.interface import Unreadable
from trunkline.log.shards import home
from trunkline.replica.queries import Replica


@dataclass(frozen=True, slots=True)
class Senders:
    """Answered by the host's copy: that a number is not the account's, only where the copy has seen all
    that stood in the number's shard when the message was accepted. Then it was shown as the account's,
    and has been given away since. `is_anybodys` says of a number that it is nobody's, and no matter."""

    replica: Replica
    shards: int
    is_anybodys: Callable[[str], bool] = field(default=lambda _: False)

    def owns(self, account: str, phone_number: str, age_s: float) -> bool | Unreadable:
        """Whether the number is the account's, of a message that was accepted `age_s` ago."""
        if self.is_anybodys(phone_number):
            return True
        lag_s = self.replica.lag_ms_of(home(phone_number, self.shards)) / 1000.0
        owner = self.replica.owner_of(phone_number)
        if isinstance(owner, Unreadable):
            return owner
        if owner != account and lag_s >= age_s:
            return Unreadable("the read copy is too far behind to know whose the number is")
        return owner == account
