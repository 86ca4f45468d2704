"""What can happen to a resource, as data: the bodies of the log's events.

Each is a frozen struct (without cycles, so none is the collector's business) whose fields may only ever be appended to, with defaults, so that an old
log is read by new code. Times are seconds since the epoch.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from trunkline.domain.account import AccountStatus
from trunkline.domain.media import Piece


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Anything that may stand in an event's `data`."""


class MessageCreated(Body, frozen=True, kw_only=True):
    """An outbound message was accepted. `fingerprint` tells a repeat of a key from another use;
    `send_at` is when it may leave, where that is not at once. `price_micros` is what it will cost
    once it has left. `is_automatic` when it answers a keyword, and goes out whoever opted out."""

    sid: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    direction: str = "outbound-api"
    status_callback: str | None = None
    messaging_service_sid: str | None = None
    validity_s: int = 36_000
    num_segments: int = 1
    fingerprint: str = ""
    send_at: float | None = None
    price_micros: int | None = None
    is_automatic: bool = False


class MessageReceived(Body, frozen=True, kw_only=True):
    """An inbound message was taken from a carrier."""

    sid: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    num_segments: int = 1
    carrier: str = ""
    carrier_message_id: str = ""
    price_micros: int | None = None


class Claimed(Body, frozen=True, kw_only=True):
    """Attempt `attempt` belongs to the task `nonce` of the process `lease`. `is_resend` when an
    earlier attempt is ambiguous. `has_callback` is false when nobody wants to be told."""

    attempt: int
    nonce: str
    lease: str
    carrier: str
    is_resend: bool = False
    has_callback: bool = True


class HandedOver(Body, frozen=True, kw_only=True):
    """The carrier took the message."""

    attempt: int
    carrier: str
    carrier_message_id: str


class Refused(Body, frozen=True, kw_only=True):
    """The carrier, or we, said a final no. `error_code` is Twilio's."""

    attempt: int
    error_code: int
    reason: str = ""


class Returned(Body, frozen=True, kw_only=True):
    """The attempt surely did not leave; the message may be claimed again. `is_resend` as before."""

    attempt: int
    reason: str = ""
    is_resend: bool = False


class Ambiguous(Body, frozen=True, kw_only=True):
    """Whether the attempt reached the carrier cannot be known."""

    attempt: int
    reason: str = ""
    is_held: bool = False


class Receipt(Body, frozen=True, kw_only=True):
    """A carrier's word about a message it took: `delivered`, `undelivered` or `failed`. `done_date` is
    when that came to be, as the carrier says it (see `ReceiptItem`)."""

    status: str
    carrier: str
    carrier_message_id: str
    error_code: int | None = None
    done_date: str = ""


class Told(Body, frozen=True, kw_only=True):
    """The customer's webhook was told `status`, or we gave up telling (`is_given_up`). `attempts` are
    those of the process that wrote this. `is_replay` when an operator had it told again."""

    status: str
    attempts: int
    http_status: int | None = None
    is_given_up: bool = False
    is_replay: bool = False


class MediaKept(Body, frozen=True, kw_only=True):
    """All media of a message lie on this cluster's disks. Of two such events the earlier counts."""

    pieces: tuple[Piece, ...]


class MediaRemoved(Body, frozen=True, kw_only=True):
    """The media `media` (SIDs) of a message were deleted by their owner; nothing brings them back."""

    media: tuple[str, ...]


class Canceled(Body, frozen=True, kw_only=True):
    """Whoever asked for the message does not want it any more. A link of its chain, and its last."""


class Redacted(Body, frozen=True, kw_only=True):
    """The text of a finished message is not to be shown to anybody any more."""


class Notice(Body, frozen=True, kw_only=True):
    """What was wrong when an application was asked about an inbound message, or told of a step of an
    outbound one: `code` is Twilio's, `url` what was asked, and `method` how. The same happening again
    gives the same event id."""

    code: int
    reason: str
    url: str
    method: str
    is_warning: bool = False


class NumberOwned(Body, frozen=True, kw_only=True):
    """An account owns a telephone number, and says what to do with what arrives there. Before it was
    moved there, `former_accounts` owned it; who asked them to stop has asked the number."""

    sid: str
    phone_number: str
    friendly_name: str
    sms_url: str = ""
    sms_method: str = "POST"
    sms_fallback_url: str = ""
    sms_fallback_method: str = "POST"
    status_callback: str = ""
    status_callback_method: str = "POST"
    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    sms_application_sid: str = ""
    voice_application_sid: str = ""
    address_sid: str = ""
    bundle_sid: str = ""
    identity_sid: str = ""
    fingerprint: str = ""
    former_accounts: tuple[str, ...] = ()


class ApplicationMade(Body, frozen=True, kw_only=True):
    """A set of URLs under one name, which numbers may share. `fingerprint` tells a repeat of a key
    from another use, here as in `NumberOwned`: it stays what it was at the creation."""

    sid: str
    friendly_name: str
    sms_url: str = ""
    sms_method: str = "POST"
    sms_fallback_url: str = ""
    sms_fallback_method: str = "POST"
    sms_status_callback: str = ""
    message_status_callback: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"
    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    voice_caller_id_lookup: bool = False
    public_application_connect_enabled: bool = False
    fingerprint: str = ""


class AccountOpened(Body, frozen=True, kw_only=True):
    """An account exists, with the token it authenticates with and its webhooks are signed with.
    `owner` is its parent's SID. `fingerprint` as in `ApplicationMade`."""

    sid: str
    friendly_name: str
    auth_token: str
    owner: str = ""
    status: AccountStatus = AccountStatus.ACTIVE
    type: str = "Full"
    fingerprint: str = ""


class KeyMade(Body, frozen=True, kw_only=True):
    """An API key. Of its secret only the SHA-256 is kept, in hexadecimal digits. `fingerprint` as in
    `ApplicationMade`."""

    sid: str
    friendly_name: str
    secret_digest: str
    fingerprint: str = ""


Settings = TypeVar("Settings", AccountOpened, ApplicationMade, KeyMade, NumberOwned)
"""The whole state of a record of the directory, one row for each kind: all have a `sid`, a
`friendly_name` and a `fingerprint`."""


class Deleted(Body, frozen=True, kw_only=True):
    """A finished message, with its media, is not to be shown to anybody any more; or a record of the
    directory is gone, whose register stays, and may be taken anew under another SID."""


class Tombstone(Body, frozen=True, kw_only=True):
    """This register is closed: the copy in shard `for_shard` is the true one."""

    for_shard: int


class KeyConflict(Body, frozen=True, kw_only=True):
    """Two creates with one key and different parameters were both answered 201, because they met
    different shards. The one with `kept` is sent; the copy in shard `dropped_in_shard` never is."""

    kept: str
    dropped: str
    dropped_in_shard: int


class Kind(StrEnum):
    """The kinds of resource; the third word of an event's subject."""

    MESSAGE = "message"
    INBOUND = "inbound"
    NUMBER = "number"
    ACCOUNT = "account"
    APPLICATION = "application"
    KEY = "key"


class Type(StrEnum):
    """The types of event. Those of a chain are written by compare-and-set, one behind the other."""

    ORIGINAL = "original"
    TOMBSTONE = "tombstone"
    CLAIM = "claim"
    OUTCOME = "outcome"
    REFUSAL = "refusal"
    RETURN = "return"
    AMBIGUOUS = "ambiguous"
    RECEIPT = "receipt"
    TOLD = "told"
    KEY_CONFLICT = "key_conflict"
    MEDIA_KEPT = "media_kept"
    MEDIA_REMOVED = "media_removed"
    CANCEL = "cancel"
    REDACTED = "redacted"
    NOTICE = "notice"
    CHANGE = "change"
    """The whole record anew: its body is that of an original."""
    DELETED = "deleted"


ONE_REGISTER: Final = frozenset({Kind.NUMBER, Kind.ACCOUNT, Kind.APPLICATION, Kind.KEY})
"""The kinds whose records have one register each, in the home shard of its name, with the record's
whole chain in it (`directory/records`). No shard is passed over, so an original is never late."""


_ORIGINALS: Final[Mapping[Kind, type[Body]]] = {
    Kind.MESSAGE: MessageCreated,
    Kind.INBOUND: MessageReceived,
    Kind.NUMBER: NumberOwned,
    Kind.ACCOUNT: AccountOpened,
    Kind.APPLICATION: ApplicationMade,
    Kind.KEY: KeyMade,
}

_LATER: Final[Mapping[Type, type[Body]]] = {
    Type.TOMBSTONE: Tombstone,
    Type.CLAIM: Claimed,
    Type.OUTCOME: HandedOver,
    Type.REFUSAL: Refused,
    Type.RETURN: Returned,
    Type.AMBIGUOUS: Ambiguous,
    Type.RECEIPT: Receipt,
    Type.TOLD: Told,
    Type.KEY_CONFLICT: KeyConflict,
    Type.MEDIA_KEPT: MediaKept,
    Type.MEDIA_REMOVED: MediaRemoved,
    Type.CANCEL: Canceled,
    Type.REDACTED: Redacted,
    Type.NOTICE: Notice,
    Type.DELETED: Deleted,
}

_WHOLE: Final = frozenset({Type.ORIGINAL, Type.CHANGE})


def body_type(kind: Kind, type_: Type) -> type[Body]:
    """The struct that stands in the `data` of an event of this kind and type."""
    return _ORIGINALS[kind] if type_ in _WHOLE else _LATER[type_]
