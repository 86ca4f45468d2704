"""What doctor says of a log that grows."""

from typing import Final

import msgspec

from trunkline.host import forecast
from trunkline.host.retain import Found
from trunkline.host.setting_kinds import GIB, MIB

NOW: Final = 1_700_000_000.0
HOUR_S: Final = 3_600.0
CALM: Final = Found(
    at=NOW - 60.0,
    messages=1_000_000,
    resources=250_000,
    bytes=GIB,
    bytes_max=8 * GIB,
    fullest=0.13,
    oldest_at=NOW - 10 * HOUR_S,
    horizon=None,
    retain_s=48 * HOUR_S,
    recent_messages=600_000,
    recent_s=6 * HOUR_S,
    waiting_for="snapshot",
    waiting_shard=3,
    waiting_sequence=16,
)


def but(**changes: object) -> Found:
    return msgspec.structs.replace(CALM, **changes)


def test_a_log_with_room_says_what_a_resource_takes_and_where_trimming_holds_it() -> None:
    what, mend = forecast.fill(CALM)

    # 100,000 messages an hour, of which a million take a gibibyte.
    assert "4,294 bytes of disk each" in what
    assert "143 MiB of the engine's memory" in what
    assert "trimming holds it at 4,915 MiB of disk and 687 MiB of memory" in what
    assert mend == ""


def test_a_log_that_is_too_small_for_its_pace_says_when_it_is_full_and_what_it_needs() -> None:
    what, mend = forecast.fill(but(recent_messages=1_800_000))

    assert "creates are refused in about 18 h" in what
    assert mend == "raise log.bytes_max to 23040MiB"
    assert 14_746 / 0.8 < 23_040


def test_a_full_log_says_that_it_is_full() -> None:
    what, mend = forecast.fill(but(fullest=0.81, bytes=6_500 * MIB))

    assert "creates are refused now" in what
    assert mend


def test_an_idle_log_has_no_forecast() -> None:
    assert forecast.fill(but(recent_messages=0))[0].endswith("nothing comes")
    assert forecast.fill(but(messages=0, bytes=0, resources=0))[1] == ""


def test_a_young_log_says_when_its_first_part_goes() -> None:
    assert forecast.trimming(CALM, NOW) == (
        "the oldest part of the log is 10 h old, and goes in 38 h; then 2,458 MiB a day",
        "",
    )


def test_a_log_that_is_trimmed_as_it_should_be_is_no_worry() -> None:
    assert forecast.trimming(but(oldest_at=NOW - 49 * HOUR_S), NOW)[1] == ""


def test_whoever_holds_back_the_trimming_is_named() -> None:
    found = but(oldest_at=NOW - 200 * HOUR_S, waiting_for="dispatch")

    what, mend = forecast.trimming(found, NOW)

    assert "'dispatch', which is not past sequence 17 of shard 3" in what
    assert "about 1,024 MiB would go" in what
    assert "when-messages-stop" in mend


def test_what_was_found_long_ago_says_nothing_of_today() -> None:
    assert "no host runs here" in forecast.trimming(CALM, NOW + 10 * HOUR_S)[0]
