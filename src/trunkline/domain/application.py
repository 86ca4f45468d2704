"""An application: URLs under one name, which many numbers may share."""

import msgspec

from trunkline.domain.events import ApplicationMade


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """An application of an account. Times are seconds since the epoch."""

    account: str
    settings: ApplicationMade
    created_at: float
    updated_at: float

    @property
    def sid(self) -> str:
        return self.settings.sid
