"""How the log engine of one host joins those of the others: what it is told, and the TLS between.

A dead peer's connection often ends by itself; a frozen or cut-off one does not, and until somebody
notices, what is sent to it waits. So the engine asks its peers and clients every second, and gives
up on one that does not answer two questions or does not read for two seconds. That moves no
election (the engine takes 4-9 s for one, by constants of its own), but it frees what waits.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host.cluster_secret import ClusterSecret, Purpose, require_tls_files
from trunkline.host.config import Settings
from trunkline.host.roster import Member

ENGINE_PING_S: Final = 1
ENGINE_PINGS_MAX: Final = 2
ROUTE_WRITE_DEADLINE_S: Final = 2
ROUTE_AUTH_TIMEOUT_S: Final = 2
ROUTE_USER: Final = "trunkline"

ZONE_TAG: Final = "zone:"
"""Begins the engine's word for where it stands."""

_NAME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """All in PEM. Every host shows its certificate to every other, as client and as server."""

    cert: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """For a client of the engine; the certificates must name the addresses of the hosts."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


@dataclass(frozen=True, slots=True)
class EngineCluster:
    """What an engine must know to be one of several. `name` is that of the engines' cluster; it
    follows from the secret, so an engine of another cluster is refused by name as well. `zone` is
    where this host stands; with `is_spread`, no two copies of a shard are put into one zone."""

    name: str
    own: Member
    peers: tuple[Member, ...]
    client_token: str
    route_password: str
    tls: TlsFiles | None = None
    zone: str = ""
    is_spread: bool = False
    former_tokens: tuple[str, ...] = ()
    former_passwords: tuple[str, ...] = ()
    """Shown to hosts that do not accept the first, while the secret is being changed."""

    @property
    def hosts(self) -> int:
        return 1 + len(self.peers)


def cluster_of(settings: Settings, secret: ClusterSecret) -> EngineCluster:
    """Of settings that name hosts. Raises `ConfigError` for TLS files that cannot be used."""
    cluster = settings.cluster
    tls = None
    if cluster.tls_cert is not None and cluster.tls_key is not None and cluster.tls_ca is not None:
        require_tls_files(cluster.tls_cert, cluster.tls_key, cluster.tls_ca)
        tls = TlsFiles(cluster.tls_cert, cluster.tls_key, cluster.tls_ca)
    (own,) = (member for member in cluster.hosts if member.name == settings.host.name)
    return EngineCluster(
        name=engine_name(secret),
        own=own,
        peers=tuple(member for member in cluster.hosts if member != own),
        client_token=secret.derive(Purpose.ENGINE_CLIENT),
        route_password=secret.derive(Purpose.ENGINE_ROUTE),
        tls=tls,
        zone=settings.host.zone,
        is_spread=cluster.spread,
        former_tokens=secret.former(Purpose.ENGINE_CLIENT),
        former_passwords=secret.former(Purpose.ENGINE_ROUTE),
    )


def engine_name(secret: ClusterSecret) -> str:
    return f"trunkline-{secret.cluster_id[:_NAME_DIGITS]}"


def render(cluster: EngineCluster, *, is_watched: bool = True) -> list[str]:
    """The lines of the engine's configuration that one host alone does not have. Unless it
    `is_watched`, a silent engine is noticed after minutes."""
    pings = [f'ping_interval: "{ENGINE_PING_S}s"', f"ping_max: {ENGINE_PINGS_MAX}"]
    if not is_watched:
        pings = []
    lines = list(pings)
    if cluster.zone:
        lines.append(f"server_tags: [{json.dumps(ZONE_TAG + cluster.zone)}]")
    if cluster.tls is not None:
        # The client speaks TLS from its first byte, so nothing is ever said in the clear.
        lines += ["tls {", *_tls_lines(cluster.tls), "  handshake_first: true", "}"]
    lines += [
        "cluster {",
        f"  name: {json.dumps(cluster.name)}",
        f"  listen: {json.dumps(str(cluster.own.route))}",
        "  authorization {",
        f"    user: {json.dumps(ROUTE_USER)}",
        f"    password: {json.dumps(cluster.route_password)}",
        f"    timeout: {ROUTE_AUTH_TIMEOUT_S}",
        "  }",
        "  routes: [",
        *(
            f"    {json.dumps(_route_url(password, member))}"
            for member in cluster.peers
            for password in (cluster.route_password, *cluster.former_passwords)
        ),
        "  ]",
        "  no_advertise: true",
        *(f"  {line}" for line in pings),
        f'  write_deadline: "{ROUTE_WRITE_DEADLINE_S}s"',
    ]
    if cluster.tls is not None:
        lines += ["  tls {", *(f"  {line}" for line in _tls_lines(cluster.tls)), "  }"]
    return [*lines, "}"]


def _route_url(password: str, member: Member) -> str:
    # The password is hexadecimal, so nothing in it needs quoting in a URL.
    return f"nats://{ROUTE_USER}:{password}@{member.route}"


def _tls_lines(tls: TlsFiles) -> list[str]:
    return [
        f"  cert_file: {json.dumps(str(tls.cert))}",
        f"  key_file: {json.dumps(str(tls.key))}",
        f"  ca_file: {json.dumps(str(tls.ca))}",
        "  verify: true",
        "  timeout: 2",
    ]
