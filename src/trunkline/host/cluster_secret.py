"""The secret that all hosts of one cluster share, and what each purpose is given of it.

One derivation a purpose (HMAC-SHA-256 over its name): who learns one value learns none of the
others. What a new cluster must agree on before its hosts can talk is derived too, so there is
nothing to agree on. What a cluster is follows from the secret that it was born with, for ever; what
its hosts show each other follows from the first line of the file, which can be another one:

    the secret that is accepted, and shown first     a line
    one that is still shown, where it is accepted    a line each
    birth:the secret the cluster was born with       where that is not shown any more

Each host accepts one secret and shows all that it has, so hosts are changed one after the other: of
any two, the one that has both reaches the other.
"""

import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from trunkline.host.refusal import ConfigError

SECRET_CHARACTERS_LEAST: Final = 32
"""16 bytes in hexadecimal, which nobody guesses."""
SECRET_BYTES_MAX: Final = 4096
BIRTH_MARK: Final = b"birth:"
SECRETS_MAX: Final = 4
"""In one file: each more is tried at every door that refuses the others."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_CONTEXT: Final = b"trunkline cluster 1\0"


class Purpose(StrEnum):
    """The names are for ever: a host with another name for one derives another value."""

    CLUSTER_ID = "cluster id"
    ENGINE_CLIENT = "engine client token"
    ENGINE_ROUTE = "engine route password"
    ACCOUNT_SID = "first account sid"
    AUTH_TOKEN = "first account token"  # noqa: S105 - the name of a purpose
    HOST_TO_HOST = "host to host bearer"


OF_BIRTH: Final = frozenset({Purpose.CLUSTER_ID, Purpose.ACCOUNT_SID, Purpose.AUTH_TOKEN})
"""What the cluster is, which no change of what its hosts show each other may change."""


class ClusterSecret:
    """What is in the token file. Its text never appears in a log or an error."""

    def __init__(
        self, secret: bytes, *, former: Sequence[bytes] = (), birth: bytes | None = None
    ) -> None:
        self._secret: Final = secret
        self._former: Final = tuple(former)
        self._birth: Final = birth if birth is not None else (secret, *former)[-1]

    def derive(self, purpose: Purpose) -> str:
        """64 hexadecimal digits, the same on every host that has the same secret."""
        return _derived(self._birth if purpose in OF_BIRTH else self._secret, purpose)

    def former(self, purpose: Purpose) -> tuple[str, ...]:
        """What is shown where the first is refused: not every host has the new secret yet."""
        return tuple(_derived(secret, purpose) for secret in self._former)

    @property
    def cluster_id(self) -> str:
        """The name of the cluster's body of data: 32 hexadecimal digits, no secret."""
        return self.derive(Purpose.CLUSTER_ID)[:32]


def _derived(secret: bytes, purpose: Purpose) -> str:
    return hmac.new(secret, _CONTEXT + purpose.encode(), hashlib.sha256).hexdigest()


def read_secret(path: Path) -> ClusterSecret:
    """The secret in `path`. Raises `ConfigError` where it is missing, too short, or not kept."""
    setting = "cluster.token_file"
    _require_private(path, setting)
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    lines = [line.strip() for line in content.splitlines() if line.strip()] or [b""]
    births = [line for line in lines if line.startswith(BIRTH_MARK)]
    if len(lines) > SECRETS_MAX or births not in ([], lines[1:][-1:]):
        raise ConfigError(
            f"{path} (cluster.token_file) has {len(lines)} lines, {len(births)} of them with "
            f"'{BIRTH_MARK.decode()}', which is for the last of several",
            f"give one to {SECRETS_MAX} lines, as 'run three hosts' in the documentation says",
        )
    for line in lines:
        _require_secret(path, line.removeprefix(BIRTH_MARK))
    shown = [line for line in lines if line not in births]
    birth = births[0].removeprefix(BIRTH_MARK) if births else None
    return ClusterSecret(shown[0], former=shown[1:], birth=birth)


def _require_secret(path: Path, secret: bytes) -> None:
    if SECRET_CHARACTERS_LEAST <= len(secret) <= SECRET_BYTES_MAX:
        return
    raise ConfigError(
        f"{path} (cluster.token_file) holds {len(secret)} characters, and a secret of "
        f"{SECRET_CHARACTERS_LEAST} to {SECRET_BYTES_MAX} is wanted",
        "make one with 'openssl rand -hex 32', and copy the same file to every host",
    )


def require_tls_files(cert: Path, key: Path, ca: Path) -> None:
    """Raises `ConfigError` for a file that cannot be read, and for a key that others can."""
    _require_private(key, "cluster.tls_key")
    for path, setting in ((cert, "cluster.tls_cert"), (ca, "cluster.tls_ca")):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise _unreadable(path, setting, error) from error


def _require_private(path: Path, setting: str) -> None:
    try:
        facts = path.stat()
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path} ({setting}) is not a file", f"correct {setting}")
    if facts.st_mode & _OTHERS:
        raise ConfigError(
            f"{path} ({setting}) can be read or written by other users "
            f"(mode {stat.S_IMODE(facts.st_mode):04o})",
            f"run 'chmod 600 {path}'",
        )


def _unreadable(path: Path, setting: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot read {path}, which {setting} names ({error.strerror})",
        f"correct {setting}, or put the file there, readable for this user",
    )
