"""The documentation says what the program does: every name in the one is in the other.

Settings, commands, metrics, log events and error codes are read from the program. A page that
nothing leads to, or a link that leads nowhere, is found here too.
"""

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from trunkline.api.resources import RESOURCES
from trunkline.cli.commands import COMMANDS
from trunkline.cli.main import application
from trunkline.domain.errors import DELIVERY, FAULTS
from trunkline.host.config import SETTINGS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "trunkline"
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
GLOSSARY = DOCS / "glossary.md"

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
COUNTER_MAKERS = {"Counter", "CounterMetricFamily"}
METRIC_MAKERS = {"Gauge", "Histogram", "Summary", "GaugeMetricFamily"} | COUNTER_MAKERS
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+\Z")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
# `| **word** | meaning |`
TERM = re.compile(r"^\| \*\*(.+?)\*\* \|", re.MULTILINE)


def pages() -> list[Path]:
    """Everything a person is meant to read on."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")])


@functools.cache
def page(path: Path) -> str:
    return path.read_text("utf-8")


@functools.cache
def calls() -> tuple[tuple[Path, ast.Call, str], ...]:
    """Every call whose first argument is a text, with that text."""
    found: list[tuple[Path, ast.Call, str]] = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(args=[ast.Constant(value=str(text)), *_]):
                    found.append((path, node, text))
                case _:
                    pass
    return tuple(found)


def called(function: ast.expr) -> set[str]:
    """The last words of what is called; two where the code chooses between them."""
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return {name}
        case ast.IfExp(body=one, orelse=other):
            return called(one) | called(other)
        case _:
            return set()


def metrics_in_source() -> set[str]:
    """The names as they are scraped: a counter's ends with `_total`."""
    found: set[str] = set()
    for path, node, name in calls():
        makers = called(node.func)
        if makers & METRIC_MAKERS and name.startswith("trunkline_"):
            found.add(f"{name}_total" if makers & COUNTER_MAKERS else name)
        # `host.gauges.counters` gives a function that makes the messages' counters.
        elif makers == {"counter"} and path.is_relative_to(SOURCE / "host"):
            found.add(f"trunkline_messages_{name}_total")
    return found


Events = dict[str, tuple[set[str], set[str]]]
"""By name: the levels it is logged with, and its fields."""


def events_in_source() -> Events:
    found: Events = {}
    for _, node, name in calls():
        levels = called(node.func) & LEVELS
        if levels and EVENT.match(name):
            known_levels, fields = found.setdefault(name, (set(), set()))
            known_levels |= {"error" if level == "exception" else level for level in levels}
            fields |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def events_in_docs() -> Events:
    """Rows of `| `event` | levels | fields | meaning |`."""
    found: Events = {}
    for line in page(REFERENCE / "log-events.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and EVENT.match(cells[0].strip("`")):
            levels = {level.strip() for level in cells[1].split(",")}
            found[cells[0].strip("`")] = (levels, set(re.findall(r"`(\w+)`", cells[2])))
    return found


def options(name: str) -> list[str]:
    """The long names of a command's options."""
    group = get_command(application([name]))
    assert isinstance(group, TyperGroup)
    command = group.commands[name]
    return [
        max(parameter.opts, key=len)
        for parameter in command.params
        if isinstance(parameter, TyperOption) and not parameter.hidden
    ]


def sections(text: str) -> dict[str, str]:
    """What stands under each heading, up to the next."""
    found: dict[str, str] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.strip("# `")
        found[heading] = found.get(heading, "") + line + "\n"
    return found


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def links(path: Path) -> list[str]:
    """Where a page leads, inside the repository."""
    text = CODE_BLOCK.sub("", page(path))
    return [target for target in LINK.findall(text) if "://" not in target]


def linked_page(path: Path, target: str) -> Path:
    name = target.partition("#")[0]
    return (path.parent / name).resolve() if name else path


def test_every_setting_is_documented_with_its_default_variable_and_flag() -> None:
    rows = page(REFERENCE / "configuration.md").splitlines()
    missing = [
        setting.key
        for setting in SETTINGS
        if not any(
            f"`{setting.key}`" in row and f"`{setting.variable}`" in row and setting.flag in row
            for row in rows
        )
    ]

    assert not missing


@pytest.mark.parametrize("name", [name for name, row in COMMANDS.items() if not row.is_hidden])
def test_every_command_is_documented_with_all_its_options(name: str) -> None:
    section = sections(page(REFERENCE / "command-line.md")).get(f"trunkline {name}", "")

    assert section, f"docs/reference/command-line.md has no section `trunkline {name}`"
    assert [option for option in options(name) if f"`{option}" not in section] == []


def test_every_operation_is_documented() -> None:
    text = page(REFERENCE / "api.md")

    assert [operation for operation in RESOURCES if f"`{operation}`" not in text] == []


def test_every_metric_is_documented_and_none_besides() -> None:
    documented = set(re.findall(r"`(trunkline_[a-z_]+)`", page(REFERENCE / "metrics.md")))

    assert documented == metrics_in_source()


def test_every_log_event_is_documented_with_its_level_and_fields() -> None:
    assert events_in_docs() == events_in_source()


def test_every_error_code_is_documented_with_its_http_status() -> None:
    api, errors = page(REFERENCE / "api.md"), page(REFERENCE / "errors.md")
    missing = [
        int(code)
        for code, fault in FAULTS.items()
        if not re.search(
            rf"^\|[^|]*\b{int(code)}\b[^|]*\| {fault.http_status} \|", api, re.MULTILINE
        )
    ]
    missing += [code for code in DELIVERY if f"| {code} |" not in errors]

    assert not missing


def test_every_drop_in_is_named_in_the_documentation() -> None:
    text = "\n".join(page(path) for path in pages())
    folders = ("api/resources", "messaging/carriers", "log/engines", "cli/commands")
    missing = [
        f"{folder}/{path.stem}"
        for folder in folders
        for path in (SOURCE / folder).iterdir()
        if path.stem not in {"__init__", "__pycache__"}
        and f"`{path.stem}`" not in text
        and f"{folder}/{path.stem}" not in text
        and f"`trunkline {path.stem}`" not in text
    ]

    assert not missing


def test_every_package_has_its_place_in_the_architecture() -> None:
    text = page(DOCS / "ARCHITECTURE.md")
    packages = [path.parent.name for path in SOURCE.glob("*/__init__.py")]

    assert [name for name in packages if f"`{name}" not in text] == []


def test_every_module_that_a_page_names_exists() -> None:
    """`log/append` and `trunkline.kernel` alike."""
    packages = "|".join(path.parent.name for path in SOURCE.glob("*/__init__.py"))
    path_of_module = re.compile(rf"`(?:src/trunkline/)?((?:{packages})/[a-z_/]+)(?:\.py)?/?`")
    broken = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in pages()
        for name in path_of_module.findall(page(path))
        if not (SOURCE / f"{name}.py").exists() and not (SOURCE / name).is_dir()
    ]
    for path in pages():
        for name in re.findall(r"`(trunkline(?:\.[a-z_]+)+)`", page(path)):
            try:
                importlib.import_module(name)
            except ImportError:
                broken.append(f"{path.relative_to(ROOT)}: {name}")

    assert not broken


def test_every_link_leads_to_a_page_and_a_heading() -> None:
    broken = []
    for path in pages():
        for target in links(path):
            found = linked_page(path, target)
            heading = target.partition("#")[2]
            if not found.exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
            elif heading and heading not in map(anchor, HEADING.findall(page(found))):
                broken.append(f"{path.relative_to(ROOT)}: no heading {target}")

    assert not broken


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md" and path.exists():
            reached.add(path)
            waiting += [linked_page(path, target) for target in links(path)]

    assert [path for path in DOCS.rglob("*.md") if path not in reached] == []


def test_every_python_example_can_be_read() -> None:
    for path in pages():
        for block in PYTHON_BLOCK.findall(page(path)):
            compile(block, str(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_word_of_the_glossary_is_used() -> None:
    texts = [page(path) for path in pages() if path != GLOSSARY]
    texts += [path.read_text("utf-8") for path in SOURCE.rglob("*.py")]
    words = "\n".join(texts).lower()
    terms = TERM.findall(page(GLOSSARY))

    assert terms
    assert [term for term in terms if not re.search(rf"\b{re.escape(term)}", words)] == []


def test_the_product_is_called_compatible_and_never_a_clone() -> None:
    wrong = re.compile("twilio" + "-compatible|twilio" + " clone", re.IGNORECASE)

    assert [str(path.relative_to(ROOT)) for path in pages() if wrong.search(page(path))] == []
