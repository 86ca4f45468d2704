"""The examples on the page about using the kernel alone do what the page says."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trunkline.kernel import DEADLINE_HEADER, Fault, VirtualLoop

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "use-the-kernel-alone.md"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_example_in_virtual_time_passes() -> None:
    (source,) = [
        block for block in PYTHON_BLOCK.findall(PAGE.read_text("utf-8")) if "def test_" in block
    ]
    names: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), names)  # noqa: S102 - it is our own page

    example: Callable[[], None] = names["test_ten_minutes_with_a_frozen_replica"]
    example()


def test_every_name_that_an_example_imports_exists() -> None:
    imports = [
        line
        for block in PYTHON_BLOCK.findall(PAGE.read_text("utf-8"))
        for line in block.splitlines()
        if line.startswith("from trunkline")
    ]

    assert len(imports) >= 5
    for line in imports:
        exec(line, {})  # noqa: S102 - it is our own page


@dataclass
class Response:
    """An HTTP message, as an example's reader would have one from some library."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


def example_with(words: str, **given: object) -> dict[str, Any]:
    """What the example that contains these words defines, for a program that has `given`."""
    (source,) = [block for block in PYTHON_BLOCK.findall(PAGE.read_text("utf-8")) if words in block]
    names: dict[str, Any] = dict(given)
    exec(compile(source, str(PAGE), "exec"), names)  # noqa: S102 - it is our own page
    return names


def test_the_example_that_finds_fault_with_an_answer_does() -> None:
    busy = example_with("def busy(")["busy"]

    assert busy(Response(200)) is None
    assert busy(Response(503, {"Retry-After": "7"})) == Fault("busy", retry_after_s=7.0)


@pytest.mark.anyio
async def test_the_server_of_the_example_answers_and_drops_what_is_too_late() -> None:
    async def work(request: Response) -> Response:
        del request
        return Response(200)

    handle: Callable[[Response], Awaitable[Response]]
    handle = example_with("async def handle(", work=work, Response=Response)["handle"]

    assert (await handle(Response(0))).status == 200
    assert (await handle(Response(0, {DEADLINE_HEADER: "250"}))).status == 200
    late = await handle(Response(0, {DEADLINE_HEADER: "0"}))
    assert late.status == 503
    assert late.headers["Retry-After"].isdigit()


@pytest.mark.anyio
async def test_the_breaker_of_the_example_spares_a_customer_that_only_fails() -> None:
    asked = []

    class Customer:
        async def post(self) -> None:
            asked.append(1)
            raise OSError("refused")

    tell: Callable[[Customer], Awaitable[None]] = example_with("async def tell(")["tell"]
    for _ in range(20):
        with pytest.raises(OSError, match="refused"):
            await tell(Customer())

    await tell(Customer())

    assert len(asked) == 20


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})])
async def test_the_loop_that_the_page_names_to_the_plugin_takes_no_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    await asyncio.sleep(3600.0)

    assert loop.time() - began >= 3600.0
