"""Certificates of applications: believed only whole, in date, of the right host, and vouched for."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.system.webhook_bench import CLOCK, TOKEN, WAIT_S, dice, serving

from trunkline.host import config
from trunkline.host.outward import tls_context
from trunkline.host.refusal import ConfigError
from trunkline.kernel import Deadline
from trunkline.webhooks.client import (
    Answered,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.session import open_session

pytestmark = [
    pytest.mark.system,
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]

NEW_KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=WAIT_S)


@dataclass(frozen=True)
class Authority:
    """One that lives as long as a test."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def key(self) -> Path:
        return self.folder / "authority.key"

    @classmethod
    def made_in(cls, folder: Path, name: str = "Test authority") -> "Authority":
        folder.mkdir()
        made = cls(folder)
        is_one = ("-addext", "basicConstraints=critical,CA:TRUE")
        may_sign = ("-addext", "keyUsage=critical,keyCertSign")
        written = ("-out", made.file, "-keyout", made.key)
        named = ("-subj", f"/CN={name}")
        openssl("req", "-x509", "-days", 1, *NEW_KEY, *named, *is_one, *may_sign, *written)
        return made

    def serving(self, host: str, *, days: int = 1) -> ssl.SSLContext:
        """For a server with a certificate of `host` that ends in so many days."""
        asked, own, key = (self.folder / f"{host}.{kind}" for kind in ("csr", "pem", "key"))
        named = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
        openssl("req", "-new", *NEW_KEY, *named, "-out", asked, "-keyout", key)
        signer = ("-CA", self.file, "-CAkey", self.key, "-copy_extensions", "copy")
        openssl("x509", "-req", "-days", days, "-in", asked, *signer, "-out", own)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(own, key)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made_in(tmp_path / "trusted")


def trusting(file: Path) -> ssl.SSLContext:
    """As a host is set by `webhooks.ca_file`."""
    settings = config.load(None, {}, {"TRUNKLINE_WEBHOOKS_CA_FILE": str(file)})
    context = tls_context(settings)
    assert context is not None
    return context


async def ask(served: ssl.SSLContext, trusted: ssl.SSLContext | None) -> WebhookAnswer:
    async with serving(served) as application:
        made = WebhookClient(
            session_factory=lambda: open_session(tls=trusted), clock=CLOCK, rng=dice()
        )
        url = application.url.replace("127.0.0.1", "localhost")
        request = WebhookRequest(url, "POST", (("Body", "x"),), TOKEN, "token-1")
        answer = await made.send(request, deadline=Deadline.after(WAIT_S, CLOCK))
        await made.close()
        assert len(application.heard) == isinstance(answer, Answered)
    return answer


async def test_an_authority_that_the_operator_names_is_trusted(authority: Authority) -> None:
    answer = await ask(authority.serving("localhost"), trusting(authority.file))

    assert isinstance(answer, Answered)


@pytest.mark.parametrize(
    ("host", "days", "code"), [("app.example", 1, 11235), ("localhost", -1, 11236)]
)
async def test_a_certificate_of_a_trusted_authority_must_fit(
    authority: Authority, host: str, days: int, code: int
) -> None:
    answer = await ask(authority.serving(host, days=days), trusting(authority.file))

    assert isinstance(answer, Unreachable)
    assert (answer.error_code, answer.is_unsent) == (code, True)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority.made_in(tmp_path / "other", "Another authority")

    of_system = await ask(authority.serving("localhost"), None)
    of_another = await ask(authority.serving("localhost"), trusting(other.file))

    for answer in (of_system, of_another):
        assert isinstance(answer, Unreachable)
        assert (answer.error_code, answer.is_unsent) == (11237, True)


def test_the_authorities_of_the_system_stay_trusted(authority: Authority) -> None:
    systems = ssl.create_default_context().cert_store_stats()["x509_ca"]

    assert trusting(authority.file).cert_store_stats()["x509_ca"] == systems + 1
    assert tls_context(config.load(None, {}, {})) is None


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nno\n"])
def test_a_file_without_certificates_is_refused_by_name(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content, "utf-8")

    with pytest.raises(ConfigError, match=r"webhooks\.ca_file"):
        trusting(file)
