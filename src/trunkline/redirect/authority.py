"""A certificate for Twilio's names that only the program we start trusts, and only of us.

An authority is made for this one run, signs one certificate, and its key is destroyed at once: nothing
can be signed with it again. It may vouch for names below twilio.com only. The certificate's own key is
read into memory and destroyed too, so after the start no key of ours is on the disk.

Python itself cannot sign, so the system's `openssl` does.
"""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.redirect import theirs

LIFE_DAYS: Final = 90
"""How long a program may run that reaches us over TLS; the hooks need no certificate."""
SIGN_DEADLINE_S: Final = 20.0

_AUTHORITY: Final = f"""
[req]
distinguished_name = name
prompt = no
x509_extensions = extensions
[name]
CN = Trunkline authority of one run
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
nameConstraints = critical, permitted;DNS:{theirs.DOMAIN}
subjectKeyIdentifier = hash
"""
_CERTIFICATE: Final = """
[req]
distinguished_name = name
prompt = no
[name]
CN = Trunkline forwarder
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = """


class NoAuthority(Exception):
    """There is no certificate, for a reason that a person can act on."""


@dataclass(frozen=True, slots=True)
class Authority:
    """`certificate` is what the program must trust, as PEM; `tls` is what it then speaks to."""

    certificate: str
    tls: ssl.SSLContext


async def found(folder: Path, *, regions: Iterable[str], edges: Iterable[str]) -> Authority:
    """Make it in `folder`, which only its owner can read. Raises `NoAuthority`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NoAuthority("there is no 'openssl' program on this machine: install it")
    names = ",".join(f"DNS:{name}" for name in theirs.certificate_names(regions, edges))
    (folder / "authority.cnf").write_text(_AUTHORITY, "utf-8")
    (folder / "certificate.cnf").write_text(f"{_CERTIFICATE}{names}\n", "utf-8")
    async with _destroyed(folder / "authority.key", folder / "certificate.key"):
        for arguments in _steps():
            await _run(openssl, arguments.split(), folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "certificate.pem", folder / "certificate.key")
    tls.set_alpn_protocols(["http/1.1"])
    return Authority((folder / "authority.pem").read_text("ascii"), tls)


def _steps() -> tuple[str, ...]:
    """Command lines that OpenSSL and LibreSSL both understand."""
    life = f"-sha256 -days {LIFE_DAYS}"
    signed = "-CA authority.pem -CAkey authority.key -set_serial 1"
    extended = "-extfile certificate.cnf -extensions extensions"
    return (
        "ecparam -name prime256v1 -genkey -noout -out authority.key",
        f"req -x509 -new -key authority.key {life} -config authority.cnf -out authority.pem",
        "ecparam -name prime256v1 -genkey -noout -out certificate.key",
        "req -new -key certificate.key -sha256 -config certificate.cnf -out certificate.csr",
        f"x509 -req -in certificate.csr {signed} {life} {extended} -out certificate.pem",
    )


@contextlib.asynccontextmanager
async def _destroyed(*keys: Path) -> AsyncIterator[None]:
    """Made readable by their owner only, and gone behind the block."""
    try:
        for key in keys:
            key.touch(mode=0o600)
        yield
    finally:
        for key in keys:
            key.unlink(missing_ok=True)


async def _run(openssl: str, arguments: list[str], folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        openssl,
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SIGN_DEADLINE_S):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise NoAuthority(f"'openssl {arguments[0]}' does not end") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise NoAuthority(f"'openssl {arguments[0]}' failed ({lines[-1][:200]})")
