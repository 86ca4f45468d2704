"""What `make bench-faults` reckons from what the load and the carrier saw."""

import io
import json
from dataclasses import replace

from bench.fault_figures import (
    Answer,
    Arrival,
    Change,
    Look,
    Stall,
    Unrest,
    changes,
    classes,
    deliveries,
    first_arrivals,
    first_shard,
    hand_overs,
    in_hand,
    longest_gap,
    median_and_worst,
    unrest,
    window,
)
from bench.fault_hosts import Leaders, spent_s
from bench.fault_report import Run, as_content, in_a_line, show
from bench.load import _Connection
from bench.processes import Cost
from rich.console import Console

from trunkline.host.status import ShardLine
from trunkline.log.shards import SHARDS, order

FAULT_AT = 10.0


def accepted(text: str, at: float, *, due_at: float | None = None, sid: str = "") -> Answer:
    return Answer(201, at if due_at is None else due_at, at, text, sid or f"SM{text:0>32}")


def sid_in(shard: int) -> str:
    """A SID whose create was tried in that shard first."""
    names = (f"{number:020x}" for number in range(1_000))
    return f"SM{next(name for name in names if order(name, SHARDS)[0] == shard)}{'f' * 12}"


def line(stream: str, owner: str, leader: str, consumer: str) -> ShardLine:
    return ShardLine(stream=stream, owner=owner, leader=leader, consumers={"dispatch": consumer})


def test_a_gap_that_reaches_into_the_window_counts_whole() -> None:
    gap = longest_gap([1.0, 9.0, 12.0, 12.5], 10.0, 13.0)

    assert (gap.began_at, gap.ended_at) == (9.0, 12.0)


def test_a_gap_that_ends_behind_the_window_counts_whole() -> None:
    gap = longest_gap([9.9, 10.5, 14.0], 10.0, 13.0)

    assert (gap.began_at, gap.ended_at) == (10.5, 14.0)


def test_creates_that_never_come_again_are_a_gap_until_the_end() -> None:
    gap = longest_gap([9.9, 10.5], 10.0, 13.0)

    assert (gap.began_at, gap.seconds) == (10.5, 2.5)


def test_a_window_without_any_accept_is_one_gap() -> None:
    assert longest_gap([], 10.0, 13.0).seconds == 3.0


def test_a_slow_create_counts_where_it_was_due_and_an_accept_where_it_was_answered() -> None:
    answers = [accepted("a", 1.01, due_at=1.0), accepted("b", 11.0, due_at=9.0)]

    before = window(answers, [], 0.0, FAULT_AT)
    since = window(answers, [], FAULT_AT, 12.0)

    assert (before.accepted, since.accepted) == (1, 1)
    assert round(before.slowest_ms) == 2000
    assert since.slowest_ms == 0.0


def test_what_was_refused_is_counted_by_its_status() -> None:
    answers = [Answer(503, 1.0, 1.1), Answer(503, 2.0, 2.1), Answer(429, 3.0, 3.1)]

    assert window(answers, [], 0.0, FAULT_AT).refused == {503: 2, 429: 1}


def test_a_stall_of_the_load_stands_beside_the_gap_that_it_may_have_made() -> None:
    answers = [accepted(str(n), at) for n, at in enumerate((1.0, 2.0, 4.0, 4.5))]
    in_the_gap, elsewhere = Stall(at=3.9, late_s=1.5), Stall(at=4.5, late_s=0.4)

    seen = window(answers, [in_the_gap, elsewhere], 0.5, 5.0)

    assert (seen.gap_ms, seen.gap_stall_ms, seen.load_stall_ms) == (2000.0, 1500.0, 1500.0)
    assert window(answers, [elsewhere], 0.5, 5.0).gap_stall_ms == 0.0


def test_the_gap_and_the_slowest_create_are_placed_in_the_window() -> None:
    answers = [Answer(201, due, due + took) for due, took in ((1.0, 0.25), (2.0, 0.5), (4.0, 0.25))]

    seen = window(answers, [], 0.5, 5.0)

    assert (seen.gap_at_s, seen.slowest_at_s) == (2.0, 1.5)


def test_the_fault_can_have_hurt_what_was_in_hand_and_what_came_later() -> None:
    answers = [accepted("done", 9.0), accepted("held", 9.5), accepted("lost", 9.6)]
    answers += [accepted("later", 11.0), Answer(503, 11.0, 11.1)]
    first = {"done": 9.1, "held": 10.4, "later": 11.1}

    hurt = in_hand(answers, first, FAULT_AT)

    assert [each.text for each in hurt] == ["held", "lost", "later"]


def test_how_late_counts_from_the_201_and_the_last_late_one_from_the_fault() -> None:
    answers = [accepted(text, at) for text, at in (("a", 9.9), ("b", 11.0), ("c", 12.0))]
    answers.append(accepted("never", 12.0))
    # The carrier had the first one before the load had its answer.
    seen = hand_overs(answers, {"a": 9.8, "b": 14.0, "c": 12.4}, FAULT_AT)

    assert (seen.messages, seen.missing, seen.late) == (4, 1, 1)
    assert seen.slowest_s == 3.0
    assert seen.last_late_s == 4.0
    assert seen.late_by_second == {1: 1}


def test_where_all_were_on_time_there_is_no_last_late_one() -> None:
    assert hand_overs([accepted("a", 11.0)], {"a": 11.5}, FAULT_AT).last_late_s is None


def test_the_first_shard_is_that_of_the_register_which_the_sid_begins_with() -> None:
    assert all(first_shard(sid_in(shard), SHARDS) == shard for shard in range(SHARDS))


def test_messages_are_told_apart_by_what_became_of_their_shards_leader() -> None:
    answers = [accepted(str(shard), 11.0, sid=sid_in(shard)) for shard in (0, 1, 2, 3)]
    over_before, while_under_way = Unrest(2, 5.0, 10.9), Unrest(1, 11.2, 12.0)

    told = classes(
        answers,
        {"0": 11.1, "1": 11.3, "2": 11.1},
        hurt={0},
        unrests=[over_before, while_under_way, Unrest(3, 90.0, 91.0)],
        shards=SHARDS,
    )

    assert [each.text for each in told.led_by_victim] == ["0"]
    # What never came is under way to the end.
    assert [each.text for each in told.leader_changed] == ["1", "3"]
    assert [each.text for each in told.steady] == ["2"]


def test_a_leader_that_changed_or_was_not_seen_is_unrest_from_before_the_look() -> None:
    led = [frozenset({"a"}), frozenset({"b"}), frozenset({"b"}), frozenset[str]()]
    looks = [Look(float(at), {7: leaders, 8: frozenset({"c"})}) for at, leaders in enumerate(led)]

    found = unrest(looks)

    assert found == [Unrest(7, -2.5, 1.0), Unrest(7, -0.5, 3.0)]
    assert changes(looks, 1.0) == [Change(0.0, 7, ("a",), ("b",)), Change(2.0, 7, ("b",), ())]


def test_what_never_arrived_is_lost_unless_a_host_says_that_nobody_knows() -> None:
    answers = [accepted("a", 1.0), accepted("b", 1.0), accepted("c", 1.0)]

    found = deliveries(answers, [Arrival("a", 1.1)], {answers[1].sid})

    assert (found.accepted, found.lost, found.ambiguous) == (3, ("c",), 1)


def test_a_double_that_was_marked_is_counted_but_not_held_against_the_hosts() -> None:
    answers = [accepted("a", 1.0), accepted("b", 1.0), accepted("c", 1.0)]
    arrivals = [Arrival("a", 1.1), Arrival("b", 1.1), Arrival("b", 1.5, is_marked=True)]
    arrivals += [Arrival("c", 1.1), Arrival("c", 1.5)]

    found = deliveries(answers, arrivals, ())

    assert found.doubled == ("b", "c")
    assert found.doubled_unmarked == ("c",)
    assert deliveries(answers, arrivals, {answers[2].sid}).doubled_unmarked == ()


def test_a_message_that_was_refused_and_came_twice_is_a_double() -> None:
    arrivals = [Arrival("unknown", 1.0), Arrival("unknown", 2.0)]

    assert deliveries([Answer(503, 1.0, 1.1)], arrivals, ()).doubled_unmarked == ("unknown",)


def test_the_first_of_several_arrivals_counts() -> None:
    assert first_arrivals([Arrival("a", 3.0), Arrival("a", 2.0)]) == {"a": 2.0}


def test_the_worst_is_the_greatest_and_runs_without_a_figure_are_passed_over() -> None:
    found = median_and_worst([{"x": 1.0, "y": None}, {"x": 5.0, "y": None}, {"x": 2.0, "y": None}])

    assert found == {"x": (2.0, 5.0), "y": (None, None)}


def test_who_leads_a_consumer_alone_is_missed_by_its_shard_too() -> None:
    leaders = Leaders(
        (line("EV_0", "a", "a", "a"), line("EV_1", "b", "b", "a"), line("TIMER_0", "a", "a", "a"))
    )

    assert leaders.of_stream("a") == {0}
    assert leaders.hurt_without("a") == {0, 1}
    assert not leaders.is_balanced
    assert leaders.by_shard() == {0: frozenset({"a"}), 1: frozenset({"a", "b"})}


def test_of_hosts_that_lead_as_many_the_first_by_name_is_hurt() -> None:
    leaders = Leaders((line("EV_0", "b", "b", "b"), line("EV_1", "a", "a", "a")))

    assert leaders.most(("c", "b", "a")) == "a"


def test_cpu_is_counted_from_look_to_look_for_engines_and_the_rest() -> None:
    before = {1: Cost("host", 5.0, 0), 2: Cost("nats-server", 7.0, 0), 3: Cost("host", 1.0, 0)}
    after = {1: Cost("host", 6.0, 0), 2: Cost("nats-server", 9.0, 0), 4: Cost("host", 0.5, 0)}

    assert spent_s(before, after) == {"hosts": 1.5, "engines": 2.0}


def test_an_answer_that_comes_in_pieces_is_kept_whole_for_the_witness() -> None:
    told: list[tuple[int, bytes]] = []
    connection = _Connection(lambda each, status, _: told.append((status, each.answer)), print)
    whole = b'HTTP/1.1 201 Created\r\ncontent-length: 8\r\n\r\n{"a": 1}'

    connection.data_received(whole[:30])
    connection.data_received(whole[30:])

    assert told == [(201, whole)]


def a_run(number: int) -> Run:
    answers = [accepted("a", 1.0), accepted("b", 11.0), accepted("c", 12.0)]
    arrivals = [Arrival("a", 1.1), Arrival("b", 13.0)]
    first = first_arrivals(arrivals)
    since = hand_overs(in_hand(answers, first, FAULT_AT), first, FAULT_AT)
    return Run(
        number=number,
        fault="kill",
        victim="host-a",
        shards_led=4,
        is_balanced=False,
        troubles=(),
        load_average=2.5,
        before=window(answers, [], 0.0, FAULT_AT),
        since=window(answers, [], FAULT_AT, 14.0),
        deliveries=deliveries(answers, arrivals, ()),
        ambiguous=(),
        led_by_victim=since,
        leader_changed=hand_overs([], {}, FAULT_AT),
        steady=hand_overs([], {}, FAULT_AT),
        changes=(),
        cpu_before_us={"hosts": 1.0, "engines": 2.0},
        cpu_since_us={"hosts": 1.0, "engines": 2.0},
    )


def test_people_see_each_run_and_the_worst_of_them_and_what_failed() -> None:
    written = io.StringIO()
    worse = replace(a_run(2), ambiguous=("SM1", "SM2"))

    show([a_run(1), worse], ["run 3: no start"], fault="kill", rate=300.0, to=Console(file=written))

    text = written.getvalue()
    lines = {row.rpartition("  ")[0].partition("  ")[0]: row.split() for row in text.splitlines()}
    assert lines["ambiguous"] == ["ambiguous", "0", "2", "1", "2"]
    assert "host-a (leaders unbalanced)" in text
    assert "run 1, led by the victim: 1 s 1" in text
    assert "failed: run 3: no start" in text
    assert "lost 1" in in_a_line(worse)


def test_a_run_is_kept_if_nothing_was_lost_doubled_or_left_without_an_answer() -> None:
    whole = replace(a_run(1), deliveries=deliveries([], [], ()))

    assert whole.is_kept
    assert not a_run(1).is_kept
    assert not replace(whole, troubles=("a request was not answered",)).is_kept
    doubled = deliveries([], [Arrival("a", 1.0), Arrival("a", 2.0)], ())
    assert not replace(whole, deliveries=doubled).is_kept


def test_the_json_has_each_run_whole_and_the_figures_over_all() -> None:
    content = json.loads(json.dumps(as_content([a_run(1)], [], {"fault": "kill", "rate": 300.0})))

    assert content["fault"] == "kill"
    assert content["runs"][0]["deliveries"]["lost"] == ["c"]
    assert content["worst"]["led by the victim: last late one, s after the fault"] == 3.0
    assert content["median"]["steady: last late one, s after the fault"] is None
