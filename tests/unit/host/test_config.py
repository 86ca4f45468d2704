"""Settings: what wins over what, what is refused, and that the vocabulary is written down."""

import dataclasses
from pathlib import Path

import pytest

from trunkline.host import config
from trunkline.host.config import (
    SETTINGS,
    CarrierSettings,
    ClusterSettings,
    HostSettings,
    LogSettings,
    MediaSettings,
    MessageSettings,
    PriceSettings,
    RecordSettings,
    Setting,
    WebhookSettings,
)
from trunkline.host.refusal import ConfigError, FlagError
from trunkline.host.setting_kinds import GIB, MIB, written

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"


def file_with(folder: Path, text: str) -> Path:
    path = folder / "trunkline.toml"
    path.write_text(text)
    return path


def test_copies_cannot_be_spread_over_zones_that_have_no_names() -> None:
    hosts = {
        "host.name": "a",
        "cluster.hosts": ["a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.3"],
        "cluster.token_file": "/token",
        "cluster.spread": True,
    }

    with pytest.raises(ConfigError, match=r"host.zone is not set: set host.zone on every host"):
        config.load(None, hosts, {})
    with pytest.raises(ConfigError, match=r"cluster.hosts names nobody"):
        config.load(None, {"host.zone": "rack-1", "cluster.spread": True}, {})
    assert config.load(None, hosts | {"host.zone": "rack-1"}, {}).cluster.spread


def test_without_any_input_the_defaults_are_in_force() -> None:
    settings = config.load(None, {}, {})

    assert str(settings.host.http) == "127.0.0.1:8009"
    assert settings.host.data == Path.cwd() / "trunkline-data"
    assert settings.log.bytes_max == 8 * GIB
    assert settings.carrier.on_ambiguous == "hold"
    assert set(settings.origins.values()) == {"default"}


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = file_with(tmp_path, '[host]\nhttp = "127.0.0.1:1"\nname = "a"\n[carrier]\nwindow = 3\n')
    environ = {"TRUNKLINE_HOST_HTTP": "127.0.0.1:2", "TRUNKLINE_HOST_NAME": "b", "HOME": "/"}

    settings = config.load(file, {"host.http": "127.0.0.1:3"}, environ)

    assert settings.host.http.port == 3
    assert settings.host.name == "b"
    assert settings.carrier.window == 3
    assert settings.origins["host.http"] == "flag --http"
    assert settings.origins["host.name"] == "environment TRUNKLINE_HOST_NAME"
    assert settings.origins["carrier.window"] == f"file {file}"


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    file = file_with(tmp_path, "[carrier]\nwindow = 7\n")

    assert config.load(None, {}, {"TRUNKLINE_CONFIG": str(file)}).carrier.window == 7


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('[host]\nhtpp = "127.0.0.1:1"\n', "host.http"),
        ("[carier]\nwindow = 1\n", "carrier"),
        ("window = 1\n", "carrier.window"),
    ],
)
def test_a_misspelt_key_is_refused_and_the_nearest_named(
    tmp_path: Path, text: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        config.load(file_with(tmp_path, text), {}, {})


def test_a_misspelt_variable_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'TRUNKLINE_HOST_HTTP'"):
        config.load(None, {}, {"TRUNKLINE_HOST_HTPP": "x"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[foo]\nx = 1\n", "has the unknown section 'foo': remove it"),
        ("[host]\nzzz = 1\n", "has the unknown setting 'host.zzz': remove it"),
        ("zzz = 1\n", "has, outside any section, the unknown setting 'zzz': remove it"),
    ],
)
def test_what_nobody_knows_is_called_what_it_is(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load(file_with(tmp_path, text), {}, {})


def test_a_variable_that_nobody_knows_is_called_a_variable() -> None:
    with pytest.raises(ConfigError, match="the unknown variable 'TRUNKLINE_FOO': remove it"):
        config.load(None, {}, {"TRUNKLINE_FOO": "x"})


def test_a_carrier_without_a_scheme_is_asked_about() -> None:
    with pytest.raises(ConfigError, match="did you mean 'http://localhost:8010'"):
        config.load(None, {}, {"TRUNKLINE_CARRIER_URL": "localhost:8010"})


def test_only_a_flag_that_cannot_be_used_is_a_wrong_command_line() -> None:
    with pytest.raises(FlagError):
        config.load(None, {"host.http": "foo"}, {})
    with pytest.raises(ConfigError) as refused:
        config.load(None, {}, {"TRUNKLINE_HOST_HTTP": "foo"})
    assert not isinstance(refused.value, FlagError)


def test_a_key_where_a_section_belongs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write \[host\]"):
        config.load(file_with(tmp_path, "host = 1\n"), {}, {})


def test_a_file_that_is_not_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        config.load(file_with(tmp_path, "[host\n"), {}, {})
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(tmp_path / "absent.toml", {}, {})


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("host.http", "8009"),
        ("host.http", "::1:8009"),
        ("host.http", "127.0.0.1:65536"),
        ("host.name", "Host 1"),
        ("host.name", "../x"),
        ("host.drain_s", True),
        ("host.drain_s", "nan"),
        ("host.drain_s", 0),
        ("host.ephemeral", "yes"),
        ("host.log_level", "loud"),
        ("host.crash_at", "claim"),
        ("host.crash_at", "claim-after:0"),
        ("host.processes", [["api"]]),
        ("host.processes", [["api", "dispatch", "receipts", "webhooks", "inbound"]]),
        ("carrier.window", 0),
        ("carrier.window", 1.5),
        ("carrier.url", "ftp://x"),
        ("carrier.on_ambiguous", "retry"),
        ("log.bytes_max", "8GB"),
        ("log.bytes_max", "1MiB"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_what_can(key: str, written: object) -> None:
    with pytest.raises(ConfigError, match=f"{key} cannot be .*: give "):
        config.load(None, {key: written}, {})


def test_values_are_read_alike_from_text_and_from_the_file(tmp_path: Path) -> None:
    file = file_with(
        tmp_path,
        '[host]\nephemeral = true\ndrain_s = 2\n[log]\nbytes_max = "512MiB"\n'
        '[carrier]\nurl = "http://127.0.0.1:9/"\n',
    )
    environ = {
        "TRUNKLINE_HOST_EPHEMERAL": "true",
        "TRUNKLINE_HOST_DRAIN_S": "2.0",
        "TRUNKLINE_LOG_BYTES_MAX": str(512 * MIB),
        "TRUNKLINE_CARRIER_URL": "http://127.0.0.1:9",
    }

    from_file, from_environment = config.load(file, {}, {}), config.load(None, {}, environ)

    assert from_file.host == from_environment.host
    assert from_file.log == from_environment.log
    assert from_file.carrier == from_environment.carrier


def test_processes_can_be_given_in_the_environment() -> None:
    environ = {"TRUNKLINE_HOST_PROCESSES": "api;api;projector,dispatch,receipts,webhooks,inbound"}

    groups = config.load(None, {}, environ).host.processes

    assert groups[:2] == (("api",), ("api",))
    assert len(groups) == 3


def test_the_crash_point_has_a_short_name_in_the_environment() -> None:
    settings = config.load(None, {}, {"TRUNKLINE_CRASH_AT": "claim-after:2"})

    assert settings.host.crash_at == "claim-after:2"
    assert config.from_json(config.to_json(settings)).host.crash_at == "claim-after:2"


def test_memory_cannot_be_shared_by_several_processes() -> None:
    environ = {"TRUNKLINE_HOST_PROCESSES": "api;projector,dispatch,receipts,webhooks,inbound"}

    with pytest.raises(ConfigError, match="leave one of the two out"):
        config.load(None, {"host.ephemeral": True}, environ)


THREE = ["a@10.0.0.1", "b@10.0.0.2:5222", "c@[fd00::3]:5222:7222"]


def cluster(**changes: object) -> dict[str, object]:
    """Flags of host a of three, changed."""
    found: dict[str, object] = {
        "host.name": "a", "cluster.hosts": THREE, "cluster.token_file": "/etc/token"
    }  # fmt: skip
    return found | {key.replace("__", "."): value for key, value in changes.items()}


def test_the_hosts_of_a_cluster_are_read_with_their_ports() -> None:
    settings = config.load(None, cluster(), {})

    assert [str(member) for member in settings.cluster.hosts] == [
        "a@10.0.0.1:4222:6222", "b@10.0.0.2:5222:6222", "c@[fd00::3]:5222:7222",
    ]  # fmt: skip
    from_environment = config.load(
        None,
        {"host.name": "a", "cluster.token_file": "/etc/token"},
        {"TRUNKLINE_CLUSTER_HOSTS": ", ".join(THREE)},
    )
    assert from_environment.cluster == settings.cluster
    assert config.from_json(config.to_json(settings)) == settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster__hosts": THREE[:2]}, "no quorum: losing either one stops both: run one, or thr"),
        ({"cluster__hosts": THREE[:1]}, "one host only"),
        ({"cluster__hosts": [f"h{n}@10.0.0.{n}" for n in range(1, 11)]}, "more than 9"),
        ({"host__name": "d"}, r"'d', which is not one of cluster.hosts \(a, b, c\)"),
        ({"cluster__hosts": [*THREE, "a@10.0.0.4"]}, "the name a twice"),
        ({"cluster__hosts": [*THREE, "d@10.0.0.1"]}, "the address 10.0.0.1:4222 twice"),
        ({"cluster__hosts": [*THREE, "d@10.0.0.4:1:1"]}, "the address 10.0.0.4:1 twice"),
        ({"cluster__hosts": [*THREE, "d@0.0.0.0"]}, "0.0.0.0 for d"),
        ({"cluster__token_file": ""}, "without cluster.token_file"),
        ({"cluster__tls_cert": "/c.pem"}, "belong together"),
        ({"cluster__hosts": []}, "cluster.hosts names nobody"),
        ({"host__ephemeral": True}, "leave one of the two out"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load(None, cluster(**changes), {})


@pytest.mark.parametrize(
    "entry", ["a", "a@", "@10.0.0.1", "A@10.0.0.1", "a@10.0.0.1:0", "a@10.0.0.1:1:2:3", "a@[::1]x"]
)
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster.hosts cannot be .*: give a list of NAME@ADD"):
        config.load(None, cluster(cluster__hosts=[entry, *THREE]), {})


def test_four_hosts_are_a_cluster() -> None:
    settings = config.load(None, cluster(cluster__hosts=[*THREE, "d@10.0.0.4"]), {})

    assert len(settings.cluster.hosts) == 4


def test_settings_reach_a_child_process_unchanged() -> None:
    settings = config.load(
        None,
        {"host.processes": [["api"], ["projector", "dispatch", "receipts", "webhooks", "inbound"]]},
        {"TRUNKLINE_LOG_MONITOR_HTTP": "127.0.0.1:1", "TRUNKLINE_HOST_NATS_SERVER": "/bin/true"},
    )

    assert config.from_json(config.to_json(settings)) == settings


def test_networks_come_as_a_list_or_a_text_and_go_on_to_the_children() -> None:
    flags = {"webhooks.allowed_networks": ["10.1.0.0/16", "fd12:3456::/48"]}
    environ = {"TRUNKLINE_WEBHOOKS_ALLOWED_NETWORKS": "10.1.0.0/16, fd12:3456::/48"}

    settings = config.load(None, flags, {})

    assert list(map(str, settings.webhooks.allowed_networks)) == ["10.1.0.0/16", "fd12:3456::/48"]
    assert config.load(None, {}, environ).webhooks == settings.webhooks
    assert config.from_json(config.to_json(settings)) == settings


@pytest.mark.parametrize(
    ("written", "mend"),
    [("10.1.2.3/16", "did you mean '10.1.0.0/16'"), ("app.example", "give a list of networks")],
)
def test_what_is_no_network_is_refused_with_what_was_meant(written: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        config.load(None, {"webhooks.allowed_networks": written}, {})


def test_the_table_and_the_types_name_the_same_settings() -> None:
    sections = {
        "host": HostSettings,
        "cluster": ClusterSettings,
        "carrier": CarrierSettings,
        "log": LogSettings,
        "messages": MessageSettings,
        "records": RecordSettings,
        "prices": PriceSettings,
        "media": MediaSettings,
        "webhooks": WebhookSettings,
    }
    fields = {
        f"{section}.{field.name}"
        for section, cls in sections.items()
        for field in dataclasses.fields(cls)
    }

    assert fields == {row.key for row in SETTINGS}


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.key)
def test_every_setting_is_in_the_reference(row: Setting) -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{row.key}` |")]

    assert len(lines) == 1
    default = row.default if isinstance(row.default, str) else written(row.default)
    shown = "true" if default is True else "false" if default is False else str(default)
    assert f"`{shown}`" in lines[0] or (shown == "" and '`""`' in lines[0])
    assert row.variable in lines[0]
    assert row.description in lines[0]
