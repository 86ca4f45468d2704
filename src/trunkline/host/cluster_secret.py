"""The secret that all hosts of one cluster share, and what each purpose is given of it.

One derivation a purpose (HMAC-SHA-256 over its name): who learns one value learns none of the
others. What a new cluster must agree on before its hosts can talk is derived too, so there is
nothing to agree on. The cluster is its secret: another secret is another cluster.
"""

import hashlib
import hmac
import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import Final

from trunkline.host.refusal import ConfigError

SECRET_CHARACTERS_LEAST: Final = 32
"""16 bytes in hexadecimal, which nobody guesses."""
SECRET_BYTES_MAX: Final = 4096

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


class ClusterSecret:
    """What is in the token file. Its text never appears in a log or an error."""

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret

    def derive(self, purpose: Purpose) -> str:
        """64 hexadecimal digits, the same on every host."""
        return hmac.new(self._secret, _CONTEXT + purpose.encode(), hashlib.sha256).hexdigest()

    @property
    def cluster_id(self) -> str:
        """The name of the cluster's body of data: 32 hexadecimal digits, no secret."""
        return self.derive(Purpose.CLUSTER_ID)[:32]


def read_secret(path: Path) -> ClusterSecret:
    """The secret in `path`. Raises `ConfigError` where it is missing, too short, or not kept."""
    setting = "cluster.token_file"
    _require_private(path, setting)
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    if not SECRET_CHARACTERS_LEAST <= len(secret) <= SECRET_BYTES_MAX:
        raise ConfigError(
            f"{path} (cluster.token_file) holds {len(secret)} characters, and a secret of "
            f"{SECRET_CHARACTERS_LEAST} to {SECRET_BYTES_MAX} is wanted",
            "make one with 'openssl rand -hex 32', and copy the same file to every host",
        )
    return ClusterSecret(secret)


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
