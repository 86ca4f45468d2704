"""The adaptive limit: less while answers take longer than usual, back when they do not."""

from trunkline.kernel import Gradient, GradientLimits


def feed(gradient: Gradient, latency_s: float, *, since_s: float, seconds: float) -> None:
    """Answers every 10 ms, with the limit made full use of."""
    for step in range(int(seconds * 100)):
        gradient.observe(latency_s, in_flight=gradient.limit, now=since_s + step / 100.0)


def test_a_server_that_keeps_up_is_given_more_up_to_the_most() -> None:
    gradient = Gradient(GradientLimits(most=100))

    feed(gradient, 0.02, since_s=0.0, seconds=300.0)

    assert gradient.limit == 100


def test_a_server_that_slows_down_is_given_less_but_never_nothing() -> None:
    gradient = Gradient()
    feed(gradient, 0.02, since_s=0.0, seconds=60.0)
    before = gradient.limit

    feed(gradient, 0.2, since_s=60.0, seconds=10.0)

    assert 4 <= gradient.limit < before / 2


def test_after_an_overload_the_limit_comes_back() -> None:
    gradient = Gradient()
    feed(gradient, 0.02, since_s=0.0, seconds=60.0)
    feed(gradient, 0.2, since_s=60.0, seconds=30.0)
    low = gradient.limit

    feed(gradient, 0.02, since_s=90.0, seconds=60.0)

    assert gradient.limit > 2 * low


def test_a_limit_that_holds_nothing_back_is_left_alone() -> None:
    gradient = Gradient()

    for step in range(6000):
        gradient.observe(0.02, in_flight=1, now=step / 100.0)

    assert gradient.limit == 20
