"""What the program is started with: all of the user's, and what leads here."""

from pathlib import Path

import pytest

from trunkline.redirect.bundles import Bundles, NoBundle
from trunkline.redirect.variables import FORWARDER, Login, Trust, redirected

HERE = "http://127.0.0.1:9"
TRUST = Trust(lambda named: Path(f"/t/{Path(named or 'system').name}+"), lambda: Path("/t/ours"))
LOGIN = Login("AC1", "token", is_given=False)


def made(environ: dict[str, str], *, login: Login | None = None) -> dict[str, str]:
    return redirected(environ, forwarder=HERE, hooks=Path("/h"), trust=TRUST, login=login)


def test_an_empty_environment_leads_here() -> None:
    assert made({}) == {
        FORWARDER: HERE,
        "PYTHONPATH": "/h/python",
        "NODE_OPTIONS": '--require "/h/node/redirect.js"',
        "HTTP_PROXY": HERE,
        "HTTPS_PROXY": HERE,
        "https_proxy": HERE,
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "no_proxy": "localhost,127.0.0.1,::1",
        "REQUESTS_CA_BUNDLE": "/t/system+",
        "SSL_CERT_FILE": "/t/system+",
        "NODE_EXTRA_CA_CERTS": "/t/ours",
    }


def test_what_the_user_has_set_is_kept() -> None:
    found = made({
        "PATH": "/bin",
        "PYTHONPATH": "/mine",
        "NODE_OPTIONS": "--max-old-space-size=100",
        "NO_PROXY": "intern.example,127.0.0.1",
        "REQUESTS_CA_BUNDLE": "/mine.pem",
        "NODE_EXTRA_CA_CERTS": "/node.pem",
    })  # fmt: skip

    assert found["PATH"] == "/bin"
    assert found["PYTHONPATH"] == "/h/python:/mine"
    assert found["NODE_OPTIONS"].startswith("--max-old-space-size=100 --require ")
    assert found["NO_PROXY"] == found["no_proxy"] == "intern.example,127.0.0.1,localhost,::1"
    assert found["REQUESTS_CA_BUNDLE"] == "/t/mine.pem+"
    assert found["SSL_CERT_FILE"] == "/t/system+"
    assert found["NODE_EXTRA_CA_CERTS"] == "/t/node.pem+"


def test_what_would_lead_past_the_forwarder_is_taken_out() -> None:
    assert made({"no_proxy": "*,api.twilio.com,.twilio.com,a.example"})["no_proxy"] == (
        "a.example,localhost,127.0.0.1,::1"
    )


def test_the_file_of_curl_counts_where_requests_would_read_it() -> None:
    found = made({"CURL_CA_BUNDLE": "/curl.pem"})

    assert found["REQUESTS_CA_BUNDLE"] == found["CURL_CA_BUNDLE"] == "/t/curl.pem+"


def test_credentials_are_given_where_there_are_none() -> None:
    ours = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token"}
    theirs = {"TWILIO_ACCOUNT_SID": "AC2", "TWILIO_AUTH_TOKEN": "secret"}

    assert ours.items() <= made({}, login=LOGIN).items()
    assert theirs.items() <= made(theirs, login=LOGIN).items()
    assert "TWILIO_AUTH_TOKEN" not in made({"TWILIO_ACCOUNT_SID": "AC2"}, login=LOGIN)
    given = Login("AC1", "token", is_given=True)
    assert ours.items() <= made(theirs, login=given).items()


def test_without_a_certificate_no_proxy_is_named() -> None:
    found = redirected({}, forwarder=HERE, hooks=Path("/h"), trust=None, login=None)

    assert not {"HTTPS_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"} & found.keys()
    assert found[FORWARDER] == HERE


def test_a_path_with_spaces_and_quotes_reaches_node_whole() -> None:
    found = redirected({}, forwarder=HERE, hooks=Path('/a "b" c'), trust=None, login=None)

    assert found["NODE_OPTIONS"] == '--require "/a \\"b\\" c/node/redirect.js"'


def test_a_bundle_is_what_was_trusted_and_ours(tmp_path: Path) -> None:
    (tmp_path / "system.pem").write_text("SYSTEM\n")
    (tmp_path / "mine.pem").write_text("MINE")
    files = Bundles(tmp_path, "OURS\n", [tmp_path / "absent", tmp_path / "system.pem"])

    assert files.on_top_of(None).read_text() == "SYSTEM\nOURS\n"
    assert files.on_top_of(str(tmp_path / "mine.pem")).read_text() == "MINE\nOURS\n"
    assert files.on_top_of(None) == files.on_top_of(None)
    assert files.ours().read_text() == "OURS\n"


def test_what_is_trusted_is_never_replaced_by_ours_alone(tmp_path: Path) -> None:
    files = Bundles(tmp_path, "OURS\n", [tmp_path / "absent"])

    with pytest.raises(NoBundle, match="install ca-certificates"):
        files.on_top_of(None)
    with pytest.raises(NoBundle, match="cannot read"):
        files.on_top_of(str(tmp_path / "absent"))
