"""The rules of the house that a program can check: what a module may be called, hold and contain.

Each test collects all that breaks its rule, so that one run shows everything there is to mend.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import remote_acts

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "trunkline"

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
VAGUE_NAMES = {
    "base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
}  # fmt: skip

# Each folder of drop-ins, and where its files must be named: in their table, or where only the
# composition root may know them, there.
TABLES = {
    "api/resources": "api/resources/__init__.py",
    "cli/commands": "cli/commands/__init__.py",
    "messaging/carriers": "host/*.py",
    "log/engines": "host/*.py",
}
CONTRACTS = {
    "messaging/carriers": "tests/contract/test_carriers.py",
    "log/engines": "tests/contract/test_log_engines.py",
}

# Who may reach other processes (`tests/remote_acts.py`) without a pool of their own.
WITHOUT_POOL = {
    "src/trunkline/cli/commands/phone.py": "a person at a terminal sees the failure, and repeats",
    "src/trunkline/host/engine_probe.py": "asks one engine once who it is; who waits for it asks again",
    "src/trunkline/host/cut_off.py": "a connection is the question itself; it is asked again and again",
    "src/trunkline/host/put_down.py": "one datagram without an answer, sent again until it has worked",
    "src/trunkline/messaging/http_connection.py": "the wire below a carrier's link, which has pools",
    "src/trunkline/redirect/tunnel.py": "somebody else's bytes: what fails there is the program's to see",
    "src/trunkline/redirect/wire.py": "the wire below `cluster`, which has the pool",
    "src/trunkline/webhooks/cookies.py": "a jar, and no request: `client` has the pool",
    "src/trunkline/webhooks/session.py": "it makes the pool; whose act it is, asks through it",
    "src/trunkline/log/engines/jetstream/connection.py": "the wire below `Requests`, whose pool it is",
}

# A witness outside the system: what it sees of each single try is what it is there for.
WITNESSES = "src/trunkline/drills/"

# What starts several hosts, or several log servers, in a test of the system.
SEVERAL_HOSTS = re.compile(r'"--hosts", "[3-9]"|\b(machines|cluster)\(tmp_path')

MARKED_APART = re.compile(r"pytest\.mark\.(alone|several)\b")

# Spelled in pieces, so that this file does not break its own rules.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
OUR_MACHINES = re.compile(r"(?<![\w.~$}/-])/(" + "|".join(["wo" + "rk", "ro" + "ot"]) + r")(/|\b)")
REGISTRIES = re.compile(
    "|".join(["py" + "pi\\.org", "python" + "hosted", "npm" + "js\\.", "gh" + "cr\\.io"])
)
ISSUE_NUMBERS = re.compile(r"(?i)\b(issue|ticket|pull request)s? #?\d|\bGH-\d|(?<![\w&/])\(#\d+\)")
SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)")
EXPLAINED_SUPPRESSION = re.compile(
    r"#\s*(noqa:\s*[A-Z0-9, ]+|type:\s*ignore\[[\w, -]+\])\s*(-|#)\s*\S+"
)


@dataclass(frozen=True)
class Module:
    """One Python file of ours."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@functools.cache
def modules() -> tuple[Module, ...]:
    """All modules of the product."""
    return tuple(
        Module(path, text := path.read_text("utf-8"), ast.parse(text))
        for path in sorted(SOURCE.rglob("*.py"))
    )


@functools.cache
def texts() -> tuple[tuple[str, str], ...]:
    """Every text we wrote, with its name."""
    folders = ("src", "tests", "docs", "scripts", "bench", ".ci", "changelog.d")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "NOTICE", ROOT / "pyproject.toml"]
    endings = {".py", ".md", ".sh", ".toml", ".json", ".html", ".js", ".css", ""}
    return tuple(
        (path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for path in sorted(files)
        if path.is_file() and path.suffix in endings
    )


@functools.cache
def nodes() -> tuple[tuple[Module, ast.AST], ...]:
    """Every statement, and every `except`, with its module."""
    kinds = (ast.stmt, ast.ExceptHandler)
    return tuple(
        (module, node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    )


def places(pattern: re.Pattern[str]) -> list[str]:
    """Where the pattern stands in what we wrote."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def drop_ins(folder: str) -> list[str]:
    """The modules of a folder: its files, and its packages as a whole."""
    found = [path for path in (SOURCE / folder).iterdir() if path.stem != "__init__"]
    return sorted(
        path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()
    )


def imported(pattern: str) -> set[str]:
    """The modules that some files import, and those they name for importing later."""
    paths = set(SOURCE.glob(pattern))
    trees = [module.tree for module in modules() if module.path in paths]
    found: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_every_module_opens_with_a_docstring() -> None:
    broken = [module.name for module in modules() if not ast.get_docstring(module.tree)]

    assert not broken, "\n".join(["", *broken])


def test_no_module_has_a_vague_name() -> None:
    broken = [
        module.name
        for module in modules()
        if VAGUE_NAMES & set(module.name.removesuffix(".py").split("/"))
    ]

    assert not broken, "\n".join(["", *broken])


def test_no_module_is_too_long_to_read() -> None:
    broken = [
        f"{module.name}: {len(module.lines)} lines"
        for module in modules()
        if len(module.lines) > MODULE_LINES_MAX
    ]

    assert not broken, "\n".join(["", *broken])


def test_no_function_is_too_long_to_read() -> None:
    broken = [
        f"{module.name}:{node.lineno}: {node.name}"
        for module, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert not broken, "\n".join(["", *broken])


def test_no_module_changes_its_own_globals() -> None:
    broken = [
        f"{module.name}:{node.lineno}" for module, node in nodes() if isinstance(node, ast.Global)
    ]

    assert not broken, "\n".join(["", *broken])


def test_every_import_says_where_from() -> None:
    broken = [
        f"{module.name}:{node.lineno}"
        for module, node in nodes()
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert not broken, "\n".join(["", *broken])


def test_whoever_catches_everything_says_why() -> None:
    broken = [
        f"{module.name}:{node.lineno}"
        for module, node in nodes()
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not _gives_a_reason(module, node)
    ]

    assert not broken, "\n".join(["", *broken])


def _gives_a_reason(module: Module, handler: ast.ExceptHandler) -> bool:
    """A comment on the line itself or as the first thing below; putting right and raising on needs
    none."""
    if any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler)):
        return True
    first, below = module.lines[handler.lineno - 1 : handler.lineno + 1]
    return "#" in first or below.strip().startswith("#")


def test_every_suppressed_warning_says_why() -> None:
    broken = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        if name.endswith(".py") and name != "tests/test_tidy.py"
        for number, line in enumerate(text.splitlines(), 1)
        if SUPPRESSION.search(line) and not EXPLAINED_SUPPRESSION.search(line)
    ]

    assert not broken, "\n".join(["", *broken])


def test_every_drop_in_stands_in_its_table() -> None:
    broken = []
    for folder, table in TABLES.items():
        known = imported(table)
        prefix = "trunkline." + folder.replace("/", ".")
        broken += [
            f"{folder}/{name} is not in {table}"
            for name in drop_ins(folder)
            if f"{prefix}.{name}" not in known
        ]

    assert not broken, "\n".join(["", *broken])


def test_every_remote_act_goes_through_a_pool() -> None:
    """Whoever can reach another process makes a pool and gives it acts to `call`."""
    unpooled = {
        module.name: acts for module in modules() if (acts := remote_acts.unpooled(module.tree))
    }
    broken = [
        f"{name}: {act}"
        for name, acts in unpooled.items()
        if name not in WITHOUT_POOL and not name.startswith(WITNESSES)
        for act in acts
    ]
    broken += [f"{name} needs no exception" for name in WITHOUT_POOL if name not in unpooled]

    assert not broken, "\n".join(["", *broken])


@pytest.mark.parametrize("example", remote_acts.UNPOOLED_EXAMPLES)
def test_a_remote_act_without_a_pool_is_found(example: str) -> None:
    assert remote_acts.unpooled(ast.parse(example))


@pytest.mark.parametrize("example", remote_acts.POOLED_EXAMPLES)
def test_what_goes_through_a_pool_or_stays_here_is_left_alone(example: str) -> None:
    assert remote_acts.unpooled(ast.parse(example)) == []


def test_every_carrier_and_engine_passes_its_contract_suite() -> None:
    broken = [
        f"{folder}/{name} is not in {test}"
        for folder, test in CONTRACTS.items()
        for name in drop_ins(folder)
        if f"trunkline.{folder.replace('/', '.')}.{name}" not in (ROOT / test).read_text("utf-8")
    ]

    assert not broken, "\n".join(["", *broken])


def test_nothing_is_left_for_later() -> None:
    broken = places(UNFINISHED)

    assert not broken, "\n".join(["", *broken])


def test_no_text_speaks_of_our_machines_or_of_registries() -> None:
    broken = places(OUR_MACHINES) + places(REGISTRIES)

    assert not broken, "\n".join(["", *broken])


def test_no_text_needs_an_issue_to_be_understood() -> None:
    broken = places(ISSUE_NUMBERS)

    assert not broken, "\n".join(["", *broken])


def test_what_has_several_hosts_is_not_run_beside_what_fills_the_machine() -> None:
    modules = {path: path.read_text("utf-8") for path in (ROOT / "tests/system").glob("test_*.py")}
    several = {path.name for path, text in modules.items() if SEVERAL_HOSTS.search(text)}
    apart = {path.name for path, text in modules.items() if MARKED_APART.search(text)}

    assert len(several) > 10
    assert several - apart == set(), "mark them `several`, or `alone` where moments are measured"
