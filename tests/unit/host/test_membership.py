"""Which hosts are there, which may act, and which are dead: over networks and hosts that fail."""

import random

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.host.host_network import HostNetwork

from trunkline.host import heartbeat
from trunkline.host.heartbeat import Heard, Heartbeat
from trunkline.host.membership import (
    ABSENT_S,
    HEARTBEAT_S,
    QUIET_MIN_S,
    TAKEOVER_S,
    Membership,
    State,
)
from trunkline.host.standing import MUTE_S, Standing

ENOUGH_S = TAKEOVER_S + 0.5


def running(*names: str, delay_s: float = 0.001) -> HostNetwork:
    network = HostNetwork(names or ("a", "b", "c"), delay_s=delay_s)
    network.run_for(ENOUGH_S)
    return network


def test_three_hosts_hear_each_other_and_may_act() -> None:
    network = running()

    for name in network.names:
        view = network.view(name)
        assert view.present == ("a", "b", "c")
        assert view.is_connected
        assert network.may_act(name)


def test_a_host_that_has_just_started_may_not_act_before_a_majority_has_heard_it() -> None:
    network = HostNetwork()

    network.run_for(0.01)

    assert not network.may_act("a")
    assert network.view("a").members["b"].state is State.UNKNOWN


def test_nothing_lapses_while_all_is_well() -> None:
    network = running(delay_s=0.03)

    for _ in range(600):
        network.run_for(0.017)
        assert all(network.may_act(name) for name in network.names)


def test_the_share_of_a_killed_host_is_free_within_half_a_second() -> None:
    network = running()
    network.kill("c")

    network.run_for(ABSENT_S + 0.01)

    assert network.view("a").present == ("a", "b")
    assert network.view("b").present == ("a", "b")
    assert network.view("a").members["c"].state is State.READY  # it is not called gone yet
    network.run_for(TAKEOVER_S - ABSENT_S)
    assert network.view("a").members["c"].state is State.GONE


def test_a_killed_hosts_incarnation_is_dead_within_a_second_and_not_before_it_is_mute() -> None:
    network = running()
    network.kill("c")
    incarnation = network.hosts["c"].incarnation

    network.run_for(MUTE_S)
    assert not network.says_dead("a", "c", incarnation)

    network.run_for(TAKEOVER_S + 2 * HEARTBEAT_S + 0.05 - MUTE_S)
    assert network.says_dead("a", "c", incarnation)
    assert network.says_dead("b", "c", incarnation)


def test_two_of_three_live_on_without_the_third() -> None:
    network = running()
    network.kill("c")

    for _ in range(100):
        network.run_for(0.1)
        assert network.may_act("a")
        assert network.may_act("b")


def test_a_host_that_hears_but_is_not_heard_may_not_act() -> None:
    network = running()
    network.cut |= {("c", "a"), ("c", "b")}

    network.run_for(MUTE_S + 0.01)

    assert network.view("c").present == ("a", "b")
    assert network.view("c").is_connected
    assert not network.may_act("c")
    network.run_for(TAKEOVER_S)
    assert network.says_dead("a", "c", network.hosts["c"].incarnation)


def test_a_host_that_one_other_hears_may_act_and_is_not_dead() -> None:
    network = running()
    network.cut |= {("c", "a"), ("a", "c")}

    for _ in range(50):
        network.run_for(0.1)
        assert network.may_act("c")
        assert not network.says_dead("a", "c", network.hosts["c"].incarnation)


def test_a_host_cut_off_from_all_declares_nobody_dead() -> None:
    network = running()
    network.isolate("a")

    network.run_for(5.0)

    assert not network.view("a").is_connected
    assert not network.says_dead("a", "b", network.hosts["b"].incarnation)


def test_a_thawed_host_knows_before_it_reads_anything_that_it_was_away() -> None:
    network = running()
    network.freeze("c")
    network.run_for(2.0)

    assert not network.may_act("c")
    network.thaw("c")
    network.run_for(1.0)
    assert not network.may_act("c"), "others may have taken over: it lapsed for good"

    network.renew("c")
    network.run_for(3 * HEARTBEAT_S)
    assert network.may_act("c")


def test_a_gap_that_nobody_looked_at_is_a_gap_all_the_same() -> None:
    standing = Standing(("a", "b", "c"), "a")
    standing.sending(1, now=0.0)
    standing.echoed("b", 1, now=0.01)
    standing.sending(2, now=5.0)
    standing.echoed("b", 2, now=5.01)

    assert not standing.may_act(now=5.02)
    assert standing.has_lapsed(now=5.02)


def test_an_echo_that_comes_late_proves_nothing_about_now() -> None:
    standing = Standing(("a", "b", "c"), "a")
    standing.sending(1, now=0.0)

    standing.echoed("b", 1, now=MUTE_S + 0.1)

    assert not standing.may_act(now=MUTE_S + 0.1)


def test_a_thawed_host_does_not_take_the_others_for_gone() -> None:
    network = running()
    network.freeze("c")
    network.run_for(2.0)
    host = network.hosts["c"]
    host.frozen = False  # and its own heartbeat comes before what waits in its sockets

    host.membership.step(now=network.clock(host))

    assert network.view("c").present == ("a", "b")
    assert network.view("c").is_connected


def test_a_host_that_drains_or_is_not_ready_has_no_share_but_is_heard() -> None:
    network = running()
    network.hosts["b"].membership.set_draining()

    network.run_for(0.2)

    view = network.view("a")
    assert view.present == ("a", "c")
    assert view.members["b"].state is State.DRAINING
    assert view.is_connected


def test_what_was_never_heard_is_alive_until_we_have_listened_for_long_enough() -> None:
    network = running()
    network.kill("c")
    lost = network.hosts["c"].incarnation
    network.run_for(5.0)
    network.start("b")
    network.run_for(0.35)

    assert network.may_act("b")
    assert not network.says_dead("b", "c", lost)

    network.run_for(TAKEOVER_S + 0.3)
    assert network.says_dead("b", "c", lost)


def test_an_incarnation_first_seen_in_a_claim_is_not_dead_because_nobody_heard_it_yet() -> None:
    network = running()
    host = network.hosts["a"].membership
    now = network.clock(network.hosts["a"])

    # Only its claim has come so far: it may have been heard by the others a moment ago.
    assert not host.is_dead("c", "another", now=now)

    network.run_for(QUIET_MIN_S + 2 * HEARTBEAT_S + 0.02)
    assert network.says_dead("a", "c", "another")


def test_a_new_process_of_a_host_does_not_keep_the_old_one_alive() -> None:
    network = running()
    old = network.hosts["c"].incarnation
    network.start("c")

    network.run_for(ENOUGH_S)

    assert network.says_dead("a", "c", old)
    assert not network.says_dead("a", "c", network.hosts["c"].incarnation)


def test_a_lease_of_a_host_that_is_no_member_is_dead_when_nobody_hears_it() -> None:
    network = running()

    assert not network.says_dead("a", "host-1", "0011")
    network.run_for(ENOUGH_S)
    assert network.says_dead("a", "host-1", "0011")


def test_five_hosts_need_three_to_say_so() -> None:
    network = running("a", "b", "c", "d", "e")
    network.cut |= {("e", "a"), ("e", "b")}
    incarnation = network.hosts["e"].incarnation
    network.run_for(2 * ENOUGH_S)
    assert not network.says_dead("a", "e", incarnation)
    assert network.may_act("e")

    network.cut |= {("e", "c")}
    network.run_for(2 * ENOUGH_S)

    assert network.says_dead("a", "e", incarnation)
    assert not network.may_act("e")


def test_a_heartbeat_of_a_later_version_is_understood_as_far_as_it_is_known() -> None:
    said = Heartbeat(host="a", incarnation="1", number=7)
    later = heartbeat.encode(said).replace(b'"number":7', b'"number":7,"colour":"blue"')

    assert heartbeat.decode(later) == said
    assert heartbeat.decode(b"[]") is None
    assert heartbeat.decode(b'{"host":1}') is None


faults = st.lists(
    st.tuples(
        st.sampled_from(["cut", "mend", "freeze", "thaw", "slow", "restart", "renew", "heal"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 900).map(lambda ms: ms / 1000.0),
    ),
    max_size=25,
)


class Judges:
    """Look at the hosts now and then, and remember what was ever true."""

    def __init__(self, network: HostNetwork, rng: random.Random) -> None:
        self.network = network
        self.rng = rng
        self.could_act: dict[str, str] = {}
        self.dead: set[str] = set()

    def look(self) -> None:
        network, rng = self.network, self.rng
        # Not every host looks at every moment: a gap that nobody looked at is one all the same.
        for name in rng.sample(network.names, k=rng.randint(0, 3)):
            host = network.hosts[name]
            if network.may_act(name) and not host.frozen:
                assert host.incarnation not in self.dead
                self.could_act[host.incarnation] = name
        for incarnation, name in self.could_act.items():
            if any(self._says_dead(judge, name, incarnation) for judge in network.names):
                self.dead.add(incarnation)

    def _says_dead(self, judge: str, name: str, incarnation: str) -> bool:
        if judge == name or self.network.hosts[judge].frozen or self.rng.random() < 0.5:
            return False
        return self.network.says_dead(judge, name, incarnation)


@given(faults, st.integers(0, 2**32), st.floats(0.97, 1.03))
def test_what_anybody_ever_called_dead_never_acts_again(
    faults: list[tuple[str, str, str, float]], seed: int, pace: float
) -> None:
    rng = random.Random(seed)
    network = HostNetwork()
    network.hosts["a"].pace = pace
    judges = Judges(network, rng)

    network.run_for(0.4)
    for kind, one, other, wait_s in faults:
        network.fail(kind, one, other, slow_s=rng.random())
        judges.look()
        until = network.now + wait_s
        while network.now < until:
            network.run_for(rng.choice([0.005, 0.03, 0.11]))
            judges.look()


def said_by(host: str, *, echo: int, unheard_s: float) -> Heartbeat:
    """What a member says that has heard our heartbeat `echo`, and c's last one so long ago."""
    heard = (Heard("a", "a1", echo, 0.0), Heard("c", "c1", 9, unheard_s))
    return Heartbeat(host=host, incarnation=f"{host}1", number=echo, listening_s=9.0, heard=heard)


def test_what_a_member_said_is_as_old_as_the_heartbeat_of_ours_that_it_had() -> None:
    own = Membership(("a", "b", "c", "d", "e"), "a", now=0.0)
    own.begin("a1", now=0.0)
    own.receive(Heartbeat(host="c", incarnation="c1", number=9, may_act=True), now=0.1)
    for number in range(1, 41):
        own.beat(now=number / 10)
        own.receive(said_by("d", echo=number, unheard_s=number / 10 - 0.1), now=number / 10)
        own.receive(said_by("e", echo=number, unheard_s=0.0), now=number / 10)
    own.receive(said_by("b", echo=20, unheard_s=3.25), now=4.0)

    # By our clock, b had not heard it from 0.75 to 2.0 or later: it may have heard it since.
    assert not own.is_dead("c", "c1", now=4.0)

    own.receive(said_by("b", echo=40, unheard_s=3.5), now=4.01)
    assert own.is_dead("c", "c1", now=4.02)
