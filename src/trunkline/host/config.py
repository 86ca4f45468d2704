"""The settings of a host: one TOML file, overridden by the environment, overridden by flags.

`SETTINGS` is the whole vocabulary; reading, `trunkline doctor` and the documentation follow it. An
unknown key is refused, because a misspelt one would silently leave the default in force. This is
the only module that reads the environment.
"""

import difflib
import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.host import roster
from trunkline.host import setting_kinds as kinds
from trunkline.host.listen import Address
from trunkline.host.refusal import ConfigError, FlagError
from trunkline.host.roster import Member
from trunkline.log.limits import RETAIN_MIN_S

VARIABLE_PREFIX: Final = "TRUNKLINE_"
CONFIG_VARIABLE: Final = "TRUNKLINE_CONFIG"
"""Names the file where no `--config` does."""

RETAIN_H_MIN: Final = int(RETAIN_MIN_S / 3600)
RETAIN_H_MAX: Final = 24 * 366
KEEP_MONTHS_MAX: Final = 1_200
CORES_MAX: Final = 1_024
SEND_AT_MIN_S_MAX: Final = 86_400.0
MONTH_S: Final = 31 * 86_400.0
TRIMMED_WITHIN_H: Final = 24
"""Trimming runs a snapshot's age and some minutes behind `log.retain_h`; a day is more than that."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the vocabulary. `default` is written as in the file; `flag` is that of `up`;
    `own_variable` is there where the name in the environment does not follow from the key."""

    key: str
    kind: kinds.Kind
    default: object
    description: str
    unit: str = ""
    flag: str = ""
    own_variable: str = ""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return self.own_variable or VARIABLE_PREFIX + self.key.upper().replace(".", "_")


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("host.name", kinds.NAME, "host-1", "this host's name, unique in its cluster"),
    Setting(
        "host.zone", kinds.ZONE, "",
        "where it stands, such as a rack or a data centre; hosts of one zone may fail together",
    ),
    Setting("host.data", kinds.PATH, "trunkline-data", "where everything is kept", flag="--data"),
    Setting(
        "host.http", kinds.ADDRESS, "127.0.0.1:8009", "where the API listens; port 0 takes a free one",
        flag="--http",
    ),
    Setting(
        "host.ephemeral", kinds.CLAIM, False, "keep everything in memory and nothing after the end",
        flag="--ephemeral",
    ),
    Setting(
        "host.processes", kinds.PROCESSES, [],
        "which services share a process, as lists of names; empty: the API has one, the others one",
    ),
    Setting(
        "host.nats_server", kinds.OPTIONAL_PATH, "",
        "the log engine's program; empty: the one installed with this package, then PATH",
        flag="--nats-server",
    ),
    Setting("host.log_level", kinds.LOG_LEVEL, "info", "the least severe event that is logged"),
    Setting(
        "host.drain_s", kinds.number(0.1, 600.0), 10.0,
        "how long work under way may take to finish when the host is stopped", "seconds",
    ),
    Setting(
        "host.crash_at", kinds.CRASH_AT, "",
        "the crash point at which a process of the host kills itself, once, for drills; empty: never",
        own_variable="TRUNKLINE_CRASH_AT",
    ),
    Setting(
        "cluster.hosts", kinds.MEMBERS, [],
        "every host of the cluster, this one included, the same list on each; empty: one alone",
    ),
    Setting(
        "cluster.token_file", kinds.OPTIONAL_PATH, "",
        "the file with the secret that all hosts of the cluster share, of mode 0600",
    ),
    Setting(
        "cluster.spread", kinds.CLAIM, False,
        "keep the three copies of each shard in three zones; every host needs a host.zone",
    ),
    Setting(
        "cluster.tls_cert", kinds.OPTIONAL_PATH, "",
        "this host's certificate towards the others, in PEM; empty: the hosts talk in the clear",
    ),
    Setting("cluster.tls_key", kinds.OPTIONAL_PATH, "", "the key of that certificate, of mode 0600"),
    Setting(
        "cluster.tls_ca", kinds.OPTIONAL_PATH, "", "who signs the certificates of the hosts, in PEM"
    ),
    Setting(
        "host.break_protection", kinds.PROTECTION, "",
        "the protection that is left out, in drills only; empty: none",
        own_variable="TRUNKLINE_BREAK",
    ),
    Setting(
        "carrier.url", kinds.URL, "", "the simulated carrier; empty: one of our own is started",
        flag="--carrier",
    ),
    Setting(
        "carrier.simulator_http", kinds.ADDRESS, "127.0.0.1:8010",
        "where our own simulated carrier listens; port 0 takes a free one", flag="--simulator-http",
    ),
    Setting(
        "carrier.window", kinds.whole(1, 1000), 10,
        "hand-overs under way at once, and so the most that one lost link can leave ambiguous",
        "messages",
    ),
    Setting(
        "carrier.on_ambiguous", kinds.POLICY, "hold",
        "what to do when the carrier did not say whether it took a message",
    ),
    Setting(
        "log.bytes_max", kinds.size(64 * kinds.MIB), "8GiB",
        "the most the log may take on disk, over all its shards", "bytes",
    ),
    Setting(
        "log.retain_h", kinds.whole(RETAIN_H_MIN, RETAIN_H_MAX), RETAIN_H_MIN,
        "how long the log keeps what everybody is done with", "hours",
    ),
    Setting(
        "log.monitor_http", kinds.OPTIONAL_ADDRESS, "",
        "where the log engine serves its own monitoring pages; empty: nowhere",
    ),
    Setting(
        "log.cores", kinds.whole(0, CORES_MAX), 0,
        "how many cores the log engine may keep busy; 0: all. Hosts that `up --hosts` runs side by "
        "side share them out",
    ),
    Setting(
        "messages.send_at_min_s", kinds.number(0.0, SEND_AT_MIN_S_MAX), 900.0,
        "how far ahead a message must at least be scheduled", "seconds",
    ),
    Setting(
        "records.keep_months", kinds.whole(0, KEEP_MONTHS_MAX), 13,
        "how long finished records can be read; 0: for ever", "months",
    ),
    Setting("prices.sms_outbound", kinds.AMOUNT, "0.0079", "a text sent, for each segment", "USD"),
    Setting("prices.sms_inbound", kinds.AMOUNT, "0.0079", "a text received, for each segment", "USD"),
    Setting("prices.mms_outbound", kinds.AMOUNT, "0.02", "a message with media sent", "USD"),
    Setting("prices.mms_inbound", kinds.AMOUNT, "0.01", "a message with media received", "USD"),
    Setting(
        "prices.opening_balance", kinds.AMOUNT, "0",
        "what the balance of every account began with; the same on every host", "USD",
    ),
    Setting(
        "media.public_url", kinds.URL, "",
        "where applications reach the API, for the media URLs that they are told; empty: this host",
    ),
    Setting(
        "media.require_credentials", kinds.CLAIM, False,
        "give the bytes of media only to who shows the account's credentials",
    ),
    Setting(
        "webhooks.private_addresses", kinds.PRIVATE_ADDRESSES, "auto",
        "whether webhooks and media may lead to private addresses; auto: on a local host of one account",
    ),
    Setting(
        "webhooks.allowed_networks", kinds.NETWORKS, [],
        "private networks that webhooks and media may lead to in any case",
    ),
    Setting(
        "webhooks.ca_file", kinds.OPTIONAL_PATH, "",
        "authorities to trust besides the system's for webhooks and media, in PEM",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostSettings:
    name: str
    zone: str
    data: Path
    http: Address
    ephemeral: bool
    processes: tuple[tuple[str, ...], ...]
    nats_server: Path | None
    log_level: str
    drain_s: float
    crash_at: str
    break_protection: str

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The services by the process that they share. The first group is the host's own process."""
        if self.ephemeral:
            return (kinds.SERVICES,)
        return self.processes or kinds.GROUPS


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """`hosts` is empty for one host alone; then the rest is None. The three TLS files come together
    or not at all."""

    hosts: tuple[Member, ...]
    token_file: Path | None
    spread: bool
    tls_cert: Path | None
    tls_key: Path | None
    tls_ca: Path | None


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    url: str
    simulator_http: Address
    window: int
    on_ambiguous: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    bytes_max: int
    retain_h: int
    monitor_http: Address | None
    cores: int


@dataclass(frozen=True, slots=True)
class MessageSettings:
    send_at_min_s: float


@dataclass(frozen=True, slots=True)
class RecordSettings:
    keep_months: int


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """Amounts as they are written, such as "0.0079"."""

    sms_outbound: str
    sms_inbound: str
    mms_outbound: str
    mms_inbound: str
    opening_balance: str


@dataclass(frozen=True, slots=True)
class MediaSettings:
    public_url: str
    require_credentials: bool


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    private_addresses: str
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set. `origins` says for every key where its value came from;
    `http_fd` is the API's listener where the parent process opened it and handed it down."""

    host: HostSettings
    cluster: ClusterSettings
    carrier: CarrierSettings
    log: LogSettings
    messages: MessageSettings
    records: RecordSettings
    prices: PriceSettings
    media: MediaSettings
    webhooks: WebhookSettings
    origins: Mapping[str, str]
    http_fd: int | None = None

    def value(self, key: str) -> object:
        """The value of `section.name`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ  # noqa: TID251 - the one module that reads it


def load(
    config_file: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]
) -> Settings:
    """The settings in force. `flags` has keys of the table; a value of None was not given.

    Raises `ConfigError` for the first thing that cannot be used.
    """
    named = environ.get(CONFIG_VARIABLE, "")
    file = config_file if config_file is not None else Path(named) if named else None
    layers = (
        _from_flags(flags),
        _from_environment(environ),
        {} if file is None else _from_file(file),
    )
    return _settle(layers)


def to_json(settings: Settings) -> bytes:
    """For a child process; `from_json` reads it."""
    rows = {
        row.key: [kinds.written(settings.value(row.key)), settings.origins[row.key]]
        for row in SETTINGS
    }
    return json.dumps(rows, indent=1).encode()


def from_json(text: bytes) -> Settings:
    rows: Mapping[str, tuple[object, str]] = json.loads(text)
    return _settle(({key: (value, origin) for key, (value, origin) in rows.items()},))


Layer = Mapping[str, tuple[object, str]]
"""Values as they were written, each with its origin."""

_FLAG: Final = "flag"
"""Begins the origin of what was given on the command line."""


def _from_flags(flags: Mapping[str, object]) -> Layer:
    flag_of = {row.key: row.flag for row in SETTINGS}
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given:
        _require_known(key, flag_of, "the flags name the unknown setting")
    return {key: (value, f"{_FLAG} {flag_of[key]}".rstrip()) for key, value in given.items()}


def _from_environment(environ: Mapping[str, str]) -> Layer:
    key_of = {row.variable: row.key for row in SETTINGS}
    known = (*key_of, CONFIG_VARIABLE)
    layer: dict[str, tuple[object, str]] = {}
    for name in sorted(environ):
        if name.startswith(VARIABLE_PREFIX) and name != CONFIG_VARIABLE:
            where = "the environment has the unknown variable"
            _require_known(name, known, where, prefix=VARIABLE_PREFIX)
            layer[key_of[name]] = (environ[name], f"environment {name}")
    return layer


def _from_file(file: Path) -> Layer:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {file} ({error.strerror})",
            "correct --config, or make the file readable",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the configuration file {file} is not TOML ({error})", "correct that place"
        ) from error
    known = [row.key for row in SETTINGS]
    sections = {key.partition(".")[0] for key in known}
    layer: dict[str, tuple[object, str]] = {}
    for section, entries in document.items():
        if not isinstance(entries, dict):
            # A key that stands outside any section is most often one whose section was forgotten.
            where = f"the configuration file {file} has, outside any section, the unknown setting"
            _require_known(section, [*sections, *known], where)
            raise ConfigError(
                f"the configuration file {file} has {section!r} where the section "
                f"[{section}] belongs",
                f"write [{section}] on a line of its own and its keys below it",
            )
        where = f"the configuration file {file} has the unknown section"
        _require_known(section, sorted(sections), where)
        for name, value in entries.items():
            key = f"{section}.{name}"
            where = f"the configuration file {file} has the unknown setting"
            _require_known(key, known, where, prefix=f"{section}.")
            layer[key] = (value, f"file {file}")
    return layer


def _require_known(
    name: str, known: Mapping[str, object] | Sequence[str], where: str, *, prefix: str = ""
) -> None:
    """`prefix` is common to many names, and says nothing about which of them is meant."""
    if name in known:
        return
    bare = {key.removeprefix(prefix): key for key in known}
    tail = {key.rpartition(".")[2]: found for key, found in bare.items()}
    word = name.removeprefix(prefix)
    near = [bare[found] for found in _nearest(word, bare, cutoff=0.5)]
    near += [tail[found] for found in _nearest(word.rpartition(".")[2], tail, cutoff=0.6)]
    raise ConfigError(f"{where} {name!r}", f"did you mean {near[0]!r}?" if near else "remove it")


def _nearest(word: str, words: Mapping[str, str], *, cutoff: float) -> list[str]:
    return difflib.get_close_matches(word, words, n=1, cutoff=cutoff)


def _settle(layers: Sequence[Layer]) -> Settings:
    """Each setting from the first layer that has it."""
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for row in SETTINGS:
        written, origin = next(
            (layer[row.key] for layer in layers if row.key in layer), (row.default, "default")
        )
        section, _, name = row.key.partition(".")
        try:
            values.setdefault(section, {})[name] = row.kind.read(written)
        except ValueError as error:
            refused = FlagError if origin.startswith(f"{_FLAG} ") else ConfigError
            meant = row.kind.meant(written)
            raise refused(
                f"{row.key} cannot be {written!r} (from {origin})",
                f"did you mean {meant!r}?" if meant else f"give {row.kind.wanted}",
            ) from error
        origins[row.key] = origin
    settings = Settings(
        HostSettings(**values["host"]),
        ClusterSettings(**values["cluster"]),
        CarrierSettings(**values["carrier"]),
        LogSettings(**values["log"]),
        MessageSettings(**values["messages"]),
        RecordSettings(**values["records"]),
        PriceSettings(**values["prices"]),
        MediaSettings(**values["media"]),
        WebhookSettings(**values["webhooks"]),
        origins,
    )
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    """Raise `ConfigError` for settings that are each right, and together are not."""
    host, cluster = settings.host, settings.cluster
    if host.ephemeral and len(host.processes) > 1:
        raise ConfigError(
            "host.ephemeral keeps the log in one process's memory, but host.processes asks for "
            "several",
            "leave one of the two out",
        )
    if host.ephemeral and cluster.hosts:
        raise ConfigError(
            "host.ephemeral keeps the log in one process's memory, but cluster.hosts shares it",
            "leave one of the two out",
        )
    if cluster.spread and not (cluster.hosts and host.zone):
        raise ConfigError(
            "cluster.spread keeps the copies of each shard in different zones, and "
            + ("host.zone is not set" if cluster.hosts else "cluster.hosts names nobody"),
            "set host.zone on every host of the cluster, or leave cluster.spread out",
        )
    kept_h = settings.records.keep_months * MONTH_S / 3600.0
    if kept_h and settings.log.retain_h + TRIMMED_WITHIN_H > kept_h:
        raise ConfigError(
            f"log.retain_h keeps messages for {settings.log.retain_h} hours, and records.keep_months "
            f"forgets after {kept_h:.0f} that they were redacted or deleted: their text would show again",
            f"set log.retain_h to at most {kept_h - TRIMMED_WITHIN_H:.0f}, or records.keep_months higher",
        )
    roster.check(
        cluster.hosts,
        name=host.name,
        token_file=cluster.token_file,
        tls=(cluster.tls_cert, cluster.tls_key, cluster.tls_ca),
    )
