"""Files of certificates for the program: what it trusted before, and our authority besides.

Python's `requests`, curl and Go take one file in place of their own, so the machine's must be in it, or
nothing else would verify any more.
"""

import importlib.util
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Fedora, SUSE and macOS keep theirs."""
BUNDLE_BYTES_MAX: Final = 16 * 1024 * 1024


class NoBundle(Exception):
    """What the program trusts now cannot be told, so it must not be replaced."""


class Bundles:
    """Writes them into `folder`, one for each base."""

    def __init__(self, folder: Path, certificate: str, system: Iterable[Path]) -> None:
        self._folder = folder
        self._certificate = certificate
        self._system = tuple(system)
        self._written: dict[Path, Path] = {}

    def on_top_of(self, named: str | None) -> Path:
        """Of the file that a variable names, or the machine's. Raises `NoBundle`."""
        if named:
            return self._joined(Path(named))
        base = next((path for path in self._system if path.is_file()), None)
        if base is None:
            raise NoBundle(
                "no file of certificates was found on this machine: install ca-certificates"
            )
        return self._joined(base)

    def ours(self) -> Path:
        """Ours alone, for a client that adds it to its own."""
        path = self._folder / "authority-alone.pem"
        path.write_text(self._certificate, "ascii")
        return path

    def _joined(self, base: Path) -> Path:
        if base not in self._written:
            try:
                if base.is_dir():
                    raise NoBundle(f"{base} is a folder of certificates: name a file instead")
                if base.stat().st_size > BUNDLE_BYTES_MAX:
                    raise NoBundle(f"{base} is larger than {BUNDLE_BYTES_MAX} bytes")
                text = base.read_bytes()
            except OSError as error:
                raise NoBundle(f"cannot read {base} ({error.strerror})") from error
            path = self._folder / f"bundle-{len(self._written)}.pem"
            path.write_bytes(text.rstrip() + b"\n" + self._certificate.encode())
            self._written[base] = path
        return self._written[base]


def system_bundles() -> list[Path]:
    """Where the machine's may be, the likeliest first; `certifi`'s where Python has that."""
    own = ssl.get_default_verify_paths().cafile
    found = [*([own] if own else []), *SYSTEM]
    certifi = importlib.util.find_spec("certifi")
    if certifi is not None and certifi.origin is not None:
        found.append(str(Path(certifi.origin).with_name("cacert.pem")))
    return [Path(each) for each in found]
