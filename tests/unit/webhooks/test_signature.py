"""Signatures: the official library must believe every one of ours, and none of anybody else's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from trunkline.webhooks.signature import encode_form, sendable, sign, with_query

TOKEN = "a" * 32

URLS = [
    "https://app.example/hook",
    "https://app.example",
    "https://app.example?x=1&x=1&y=",
    "http://app.example:8080/hook?to=%2B1555&q=a+b",
    "https://user:p%40ss@app.example:8443/hook",
    "https://user@app.example/hook#rc=2&rp=all",
    "http://127.0.0.1:5000/#frag",
    "https://app.example/größe/😀?q=ü ü",
    "https://bücher.example/hook",
    "http://[::1]/hook",
    "https://APP.Example/a%2fb/../c;d|e",
]


def believed(url: str, params: list[tuple[str, str]], signature: str) -> bool:
    validator = RequestValidator(TOKEN)
    return bool(validator.validate(url, MultiDict(params) if params else {}, signature))


@pytest.mark.parametrize("url", URLS)
def test_the_official_library_believes_a_signed_form(url: str) -> None:
    params = [("To", "+1555"), ("Body", "Grüße 😀\n"), ("FromCity", ""), ("A", "2"), ("A", "1")]
    params += [("A", "1")]

    assert believed(sendable(url), params, sign(TOKEN, sendable(url), params))


@pytest.mark.parametrize("url", URLS)
def test_the_official_library_believes_a_signed_query(url: str) -> None:
    whole = with_query(sendable(url), [("To", "+1555"), ("Body", "Grüße & mehr"), ("Empty", "")])

    assert believed(whole, [], sign(TOKEN, whole))


@pytest.mark.parametrize("url", [url for url in URLS if ":" not in sendable(url).split("/")[2]])
def test_a_receiver_behind_a_proxy_may_see_another_port(url: str) -> None:
    scheme, _, rest = sendable(url).partition("://")
    host, slash, path = rest.partition("/")
    seen = f"{scheme}://{host}:{443 if scheme == 'https' else 80}{slash}{path}"

    assert believed(seen, [("A", "1")], sign(TOKEN, sendable(url), [("A", "1")]))


def test_a_changed_value_or_another_token_is_not_believed() -> None:
    url = "https://app.example/hook"

    assert not believed(url, [("Body", "no")], sign(TOKEN, url, [("Body", "yes")]))
    assert not believed(url, [("Body", "yes")], sign("b" * 32, url, [("Body", "yes")]))


def test_what_is_sent_has_no_fragment_no_user_and_a_path() -> None:
    assert sendable("https://u:p@app.example:8443#rc=2") == "https://app.example:8443/"
    assert sendable("http://app.example?x=1#y") == "http://app.example/?x=1"


def test_a_url_that_can_be_sent_is_sent_as_it_was_configured() -> None:
    for url in ("https://app.example/a%2fb/../c?x=%41&y=a+b", "http://app.example:80/~a?"):
        assert sendable(url) == url.removesuffix("?")


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://app.example./x", "http://app.example/x"),
        ("http://app.example:0080/x", "http://app.example:80/x"),
        ("http://app.example:/x", "http://app.example/x"),
        ("http://u:p@app.example.:8080/x", "http://app.example:8080/x"),
        ("http://[::1]:/x", "http://[::1]/x"),
        ("http://APP.Example/x", "http://APP.Example/x"),
    ],
)
def test_the_host_is_signed_as_the_request_names_it(url: str, sent: str) -> None:
    assert sendable(url) == sent


@pytest.mark.parametrize(
    "url",
    ["", "/relative", "ftp://a/b", "http://", "http://h:99999/", "http://h:0/", "http://[::1"],
)
def test_what_is_not_a_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        sendable(url)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=8))
def test_any_form_is_encoded_and_signed_without_raising(params: list[tuple[str, str]]) -> None:
    params.append(("Body", "\ud83d"))

    encode_form(params)
    sign(TOKEN, "https://app.example/", params)


@given(
    st.lists(
        st.tuples(st.text("AbC1", min_size=1, max_size=3), st.text("aü😀&=", max_size=3)),
        max_size=8,
    )
)
def test_repeated_keys_are_signed_as_the_official_library_does(
    params: list[tuple[str, str]],
) -> None:
    url = "https://app.example/hook"

    assert believed(url, params, sign(TOKEN, url, params))
