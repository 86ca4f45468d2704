"""Who has opted out is not sent to: not accepted, and not sent if it was accepted before."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace
from tests.unit.log.scripted_log import ACCOUNT, walk
from tests.unit.messaging.message_bench import Bench, Copy, Tally

from trunkline.domain.events import Kind, MessageReceived, Refused, Type
from trunkline.domain.optout import REPLIES, Keyword
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, Draft, ShardHealth, append
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import AcceptAnswer, Acceptor, Created, NewMessage, OptedOut
from trunkline.messaging.keywords import answer_to
from trunkline.messaging.unwanted import OPTED_OUT
from trunkline.replica.queries import Replica

pytestmark = pytest.mark.anyio

OURS, HANDSET = "+15550001", "+15550002"
HELLO = NewMessage(account=ACCOUNT, sender=OURS, recipient=HANDSET, text="hello")
NAME = "8" * 32


class Host:
    """A host's copy, and what is accepted through it."""

    def __init__(self, bench: Bench, copy: Copy) -> None:
        self._bench = bench
        self.copy = copy
        self._texts = 0
        self._acceptor = Acceptor(
            bench.log, copy.replica, ShardHealth(bench.clock), bench.author("one")
        )

    async def accept(self, new: NewMessage, *, key: str | None = None) -> AcceptAnswer:
        deadline = Deadline.after(10.0, self._bench.clock)
        answer: AcceptAnswer = await self._bench.within_time(
            self._acceptor.accept(new, key=key, deadline=deadline)
        )
        return answer

    async def hear(self, text: str) -> None:
        self._texts += 1
        sid = f"SM{self._texts:032x}"
        body = MessageReceived(sid=sid, sender=HANDSET, recipient=OURS, text=text)
        draft = Draft(kind=Kind.INBOUND, sid=sid, account=ACCOUNT, body=body, is_keyed=True)
        await self._bench.clock.advance(1.0)
        stored = await self._bench.within_time(
            append(
                self._bench.log,
                draft,
                author=self._bench.author("one"),
                health=ShardHealth(self._bench.clock),
            )
        )
        assert isinstance(stored, Appended)
        await self.copy.catch_up()


@pytest.fixture
async def host(bench: Bench, tmp_path: Path) -> AsyncIterator[Host]:
    async with Copy(bench, tmp_path / "one.sqlite3").following() as copy:
        yield Host(bench, copy)


async def test_nothing_is_accepted_for_who_said_stop_until_they_say_start(
    bench: Bench, host: Host
) -> None:
    await host.hear("Stop")
    before = len(await bench.log.everything())

    assert await host.accept(HELLO) == OptedOut()
    assert await host.accept(HELLO, key="order 1") == OptedOut()
    assert len(await bench.log.everything()) == before
    assert isinstance(await host.accept(replace(HELLO, sender="+15550009")), Created)

    await host.hear("START")
    assert isinstance(await host.accept(HELLO), Created)


async def test_a_key_that_was_answered_before_the_stop_is_answered_the_same(host: Host) -> None:
    first = await host.accept(HELLO, key="order 1")
    assert isinstance(first, Created)
    await host.hear("stop")

    assert await host.accept(HELLO, key="order 1") == Created(first.message, is_repeat=True)


async def test_a_key_is_answered_the_same_where_the_copy_does_not_show_its_message_yet(
    bench: Bench, host: Host, tmp_path: Path
) -> None:
    async with Copy(bench, tmp_path / "two.sqlite3").following() as copy:
        late = Acceptor(
            bench.log,
            cast("Replica", _Blind(copy)),
            ShardHealth(bench.clock),
            bench.author("two"),
        )
        first = await host.accept(HELLO, key="order 1")
        assert isinstance(first, Created)
        await host.hear("stop")
        await copy.catch_up()

        deadline = Deadline.after(10.0, bench.clock)
        again = await bench.within_time(late.accept(HELLO, key="order 1", deadline=deadline))

    assert again == Created(first.message, is_repeat=True)


class _Blind:
    """A copy that has seen the stop, and not the message."""

    def __init__(self, copy: Copy) -> None:
        self.opt_out = copy.replica.opt_out

    def message_named(self, digits: str) -> None:
        del digits

    def lag_ms(self) -> float:
        return 0.0


async def test_an_automatic_answer_is_accepted_whoever_has_opted_out(host: Host) -> None:
    await host.hear("STOP")

    accepted = await host.accept(replace(HELLO, is_automatic=True), key="x")

    assert isinstance(accepted, Created)
    assert accepted.message.original is not None
    assert accepted.message.original.is_automatic


async def test_what_was_accepted_before_the_stop_is_not_sent_after_it(bench: Bench) -> None:
    asked: list[tuple[str, str, str]] = []

    def has_opted_out(account: str, phone_number: str, handset: str) -> bool:
        asked.append((account, phone_number, handset))
        return True

    await bench.put(NAME)
    async with bench.running(bench.dispatcher("one", has_opted_out=has_opted_out)):
        await bench.pass_time(2.0)

    assert bench.carrier.submitted == []
    assert set(asked) == {(ACCOUNT, OURS, HANDSET)}
    message = await bench.message(NAME)
    assert message.status is Status.FAILED
    assert message.ending is not None
    assert message.ending.error_code == OPTED_OUT
    refusals = [
        event.body() for _, event in await bench.history(NAME) if event.type is Type.REFUSAL
    ]
    assert [isinstance(each, Refused) for each in refusals] == [True]


async def test_who_opts_out_while_a_message_is_scheduled_does_not_get_it(bench: Bench) -> None:
    said: list[str] = []
    await bench.put(NAME, send_in_s=3600.0)
    own = bench.dispatcher("one", has_opted_out=lambda *_: bool(said))

    async with bench.running(own, bench.due_messages(own)):
        await bench.pass_time(1.0)
        said.append("STOP")
        await bench.clock.advance(3600.0)
        await bench.pass_time(2.0)

    assert bench.carrier.submitted == []
    message = await bench.message(NAME)
    assert message.status is Status.FAILED
    assert message.ending is not None
    assert message.ending.error_code == OPTED_OUT


async def test_while_the_copy_cannot_be_read_messages_wait_and_none_is_held(bench: Bench) -> None:
    answers: list[bool | Unreadable] = [Unreadable("the read copy cannot be read")] * 3

    def has_opted_out(account: str, phone_number: str, handset: str) -> bool | Unreadable:
        del account, phone_number, handset
        return answers.pop() if answers else False

    await bench.put(NAME)
    async with bench.running(bench.dispatcher("one", has_opted_out=has_opted_out)):
        await bench.pass_time(0.5)
        assert bench.carrier.submitted == []
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 1
    types = [event.type for _, event in await bench.history(NAME)]
    assert types == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]


async def test_in_a_batch_only_the_message_that_nobody_can_tell_of_waits(bench: Bench) -> None:
    names = [each for each in (f"{n:032x}" for n in range(100)) if walk(each)[0] == 1][:3]
    answers: list[bool | Unreadable] = [False, Unreadable("the read copy cannot be read")]

    def has_opted_out(account: str, phone_number: str, handset: str) -> bool | Unreadable:
        del account, phone_number, handset
        return answers.pop() if answers else False

    for name in names:
        await bench.put(name)
    async with bench.running(bench.dispatcher("one", has_opted_out=has_opted_out)):
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 3
    assert cast("Tally", bench.counters.ambiguous).count == 0


async def test_who_has_not_opted_out_is_sent_to(bench: Bench) -> None:
    await bench.put(NAME)
    async with bench.running(bench.dispatcher("one", has_opted_out=lambda *_: False)):
        await bench.pass_time(2.0)

    assert len(bench.carrier.submitted) == 1


@pytest.mark.parametrize(
    ("text", "had_opted_out", "keyword"),
    [
        ("stop", False, Keyword.STOP),
        ("stop", True, None),
        ("start", True, Keyword.START),
        ("yes", False, None),
        ("help", False, Keyword.HELP),
        ("help", True, Keyword.HELP),
        ("hello", False, None),
    ],
)
def test_a_keyword_is_answered_where_it_changes_something(
    text: str, *, had_opted_out: bool, keyword: Keyword | None
) -> None:
    received = MessageReceived(sid="SM" + NAME, sender=HANDSET, recipient=OURS, text=text)

    answer = answer_to(ACCOUNT, received, had_opted_out=had_opted_out)

    if keyword is None:
        assert answer is None
    else:
        assert answer is not None
        assert (answer.sender, answer.recipient) == (OURS, HANDSET)
        assert (answer.text, answer.is_automatic) == (REPLIES[keyword], True)
