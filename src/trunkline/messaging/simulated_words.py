"""Between the carrier's interface and the simulator's wire: the same things in each one's words."""

from collections.abc import Sequence
from typing import assert_never

from trunkline.domain.media import Piece
from trunkline.messaging.carrier import (
    Accepted,
    InboundItem,
    Item,
    Outcome,
    ReceiptItem,
    Refused,
    Submission,
    done_date,
)
from trunkline.protocols import simulated as wire


def on_wire(submission: Submission) -> wire.Submission:
    """A submission as it is posted."""
    return wire.Submission(
        reference=submission.reference,
        sender=submission.sender,
        recipient=submission.recipient,
        text=submission.text,
        media_urls=submission.media_urls,
        possible_duplicate=submission.is_possible_duplicate,
        media=_media_on_wire(submission.media) if submission.media else (),
    )


def _media_on_wire(media: Sequence[Piece]) -> tuple[wire.Media, ...]:
    return tuple(
        wire.Media(sha256=piece.sha256, content_type=piece.content_type) for piece in media
    )


def outcome_of(answer: wire.Answer) -> Outcome:
    """What the carrier's answer to a submission comes to."""
    match answer:
        case wire.Accepted():
            return Accepted(answer.message_id)
        case wire.Refused():
            return Refused(
                answer.error_code,
                answer.reason,
                is_returned=answer.returned,
                retry_after_s=answer.retry_after_s,
            )
        case other:
            assert_never(other)


def item_of(item: wire.Item) -> Item:
    """A receipt or a handset's message."""
    match item:
        case wire.Receipt():
            return ReceiptItem(
                item.item_id,
                item.message_id,
                item.reference,
                item.status,
                item.error_code,
                done_date(item.done_date),
            )
        case wire.Inbound():
            return InboundItem(
                item.item_id,
                item.message_id,
                item.sender,
                item.recipient,
                item.text,
                item.media_urls,
            )
        case other:
            assert_never(other)
