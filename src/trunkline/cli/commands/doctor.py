"""`trunkline doctor`: the settings in force, every bound of the program, and this machine's faults."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trunkline.host import bounds, config, doctor
from trunkline.host.bounds import Bound, Unread
from trunkline.host.config import SETTINGS, Settings
from trunkline.host.doctor import Finding, Verdict
from trunkline.host.setting_kinds import written
from trunkline.kernel import SystemClock


def command(
    *,
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of the API.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    nats_server: Annotated[Path | None, typer.Option(help="The log engine's program.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show every setting and bound in force, and what is wrong here. Exits with 1 for a fault."""
    flags = {"host.data": data, "host.http": http, "host.nats_server": nats_server}
    settings = config.load(config_file, flags, config.environment())
    found, unread = bounds.collect()
    findings = doctor.examine(settings, clock=SystemClock())
    findings += [_unread_finding(module) for module in unread]
    if as_json:
        print(json.dumps(_document(settings, found, findings), indent=1))
    else:
        _print(settings, found, findings)
    if any(finding.verdict is Verdict.FAULT for finding in findings):
        raise typer.Exit(1)


def _unread_finding(module: Unread) -> Finding:
    return Finding(
        "program", Verdict.FAULT, f"cannot import {module.module} ({module.reason})",
        "install the package again",
    )  # fmt: skip


def _document(
    settings: Settings, found: Sequence[Bound], findings: Sequence[Finding]
) -> dict[str, object]:
    return {
        "settings": {
            row.key: {
                "value": written(settings.value(row.key)),
                "unit": row.unit,
                "from": settings.origins[row.key],
            }
            for row in SETTINGS
        },
        "bounds": [dataclasses.asdict(bound) for bound in found],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def _print(settings: Settings, found: Sequence[Bound], findings: Sequence[Finding]) -> None:
    print("Settings")
    _print_table([
        (row.key, _shown(written(settings.value(row.key)), row.unit), settings.origins[row.key])
        for row in SETTINGS
    ])  # fmt: skip
    print("\nBounds")
    _print_table([(bound.name, _shown(bound.value, bound.unit), bound.module) for bound in found])
    print("\nThis machine")
    _print_table([(finding.subject, str(finding.verdict), _said(finding)) for finding in findings])


def _shown(value: object, unit: str) -> str:
    text = json.dumps(value) if isinstance(value, list | bool | str) else f"{value:,}"
    return f"{text} {unit}".rstrip()


def _said(finding: Finding) -> str:
    return f"{finding.what}: {finding.mend}" if finding.mend else finding.what


def _print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    first, second = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    for row in rows:
        print(f"  {row[0]:<{first}}  {row[1]:<{second}}  {row[2]}")
