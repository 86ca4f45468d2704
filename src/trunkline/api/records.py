"""Records of the directory as a client creates, fetches, changes and deletes them: what their resources
have in common.

What `directory/collection` answers becomes an answer of the API here, in the same words for every kind:
404 only for what surely is not there, and 503 with what to do about it for what nobody can tell.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer
from trunkline.api.errors import ApiError, not_found, unavailable
from trunkline.api.request import Request
from trunkline.api.services import ApiServices, RecordsPort
from trunkline.directory.collection import Shown
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.domain.events import Settings
from trunkline.log.interface import Unreadable


class OfAccount(Protocol):
    """What belongs to an account."""

    @property
    def account(self) -> str: ...


Owned = TypeVar("Owned", bound=OfAccount)


def new_sid(prefix: str, *parts: str, key: str | None, services: ApiServices) -> str:
    """The SID of what is created: with a key always the same one, of `parts` and the key."""
    if key is None:
        return sid.sid_from_entropy(prefix, services.entropy(16))
    return sid.sid_from_key(prefix, *parts, key)


def sid_of(request: Request, prefix: str) -> str:
    """The SID in the path. Raises `ApiError` (404) for what is none: it becomes the name of a
    register."""
    name = request.words[1]
    if not sid.is_sid(name, prefix):
        raise not_found(request.path)
    return name


async def create(
    request: Request,
    records: RecordsPort[Settings, Shown],
    account: str,
    settings: Settings,
    *,
    key: str | None,
    claim: str,
) -> Shown:
    """The record, made now or by an earlier request with `key`: whether that one asked for the same
    is for the caller to see. `claim` completes "whether". Raises `ApiError`."""
    if request.deadline.has_passed():
        raise not_begun_in_time()
    answer = await records.make(
        account, settings, is_keyed=key is not None, deadline=request.deadline
    )
    if isinstance(answer, Spent):
        raise ApiError(Code.KEY_SPENT, sid=settings.sid)
    if isinstance(answer, Undecidable):
        raise unavailable(
            f"Whether {claim} cannot be told ({answer.reason}); repeat with the same "
            "Idempotency-Key, or look for it in the list first."
        )
    return answer


async def fetch(
    request: Request,
    records: RecordsPort[Settings, Owned],
    prefix: str,
    shown_by: Callable[[str], Owned | None],
) -> Owned:
    """The account's record of the SID in the path, as `shown_by` gives it. Raises `ApiError`."""
    name = sid_of(request, prefix)
    known = shown_by(name)
    if known is None:
        # The copy may lag: one just made is found in the log, or we say that we cannot tell.
        found = await records.find(name, deadline=request.deadline)
        if isinstance(found, Unreadable):
            raise unavailable("Whether it exists cannot be told at the moment. Try again.")
        known = found
    if known is None or known.account != request.account.sid:
        raise not_found(request.path)
    return known


async def update(
    request: Request,
    records: RecordsPort[Settings, Shown],
    name: str,
    edit: Callable[[Settings], Settings],
) -> Shown:
    """The account's record, changed. The log is asked, not the copy: what was just made can be changed,
    through any host. Raises `ApiError`."""
    answer = await records.change(request.account.sid, name, edit, deadline=request.deadline)
    return changed(request, answer)


async def delete(request: Request, records: RecordsPort[Settings, Shown], prefix: str) -> Answer:
    """The account's record of the SID in the path is deleted. Raises `ApiError`."""
    name = sid_of(request, prefix)
    return deleted(
        request, await records.delete(request.account.sid, name, deadline=request.deadline)
    )


def changed(request: Request, answer: Shown | Missing | Undecidable) -> Shown:
    """What it is now. Raises `ApiError` where it was not changed, or nobody knows."""
    if isinstance(answer, Missing):
        raise not_found(request.path)
    if isinstance(answer, Undecidable):
        raise unavailable(
            f"Whether it was changed cannot be told ({answer.reason}). Send it again."
        )
    return answer


def deleted(request: Request, answer: Removed | Missing | Undecidable) -> Answer:
    """204. Raises `ApiError` where it was not deleted, or nobody knows."""
    if isinstance(answer, Missing):
        raise not_found(request.path)
    if isinstance(answer, Undecidable):
        raise unavailable(
            f"Whether it was deleted cannot be told ({answer.reason}). Send it again."
        )
    return Answer(204, b"")
