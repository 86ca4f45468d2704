"""The simulated carrier as a drill uses it: run, behaviours set, texts sent from handsets."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from trunkline.drills.processes import PROGRAM, Program, until
from trunkline.drills.refusal import DrillError
from trunkline.kernel import Clock

READY_MAX_S: Final = 30.0
ASK_S: Final = 15.0


class Phones:
    """A running simulator. Raises `DrillError` when it refuses what it is asked."""

    def __init__(self, url: str, file: Path, session: aiohttp.ClientSession) -> None:
        self.url: Final = url
        self.file: Final = file
        self._session = session

    async def behave(self, **behaviour: object) -> None:
        """How the carrier treats everybody from now on; nothing given is a perfect carrier."""
        await self._ask("PUT", "/v1/behaviour", behaviour)

    async def behave_to(self, number: str, **behaviour: object) -> None:
        """The same towards one handset."""
        await self._ask("PUT", f"/v1/behaviour/{quote(number)}", behaviour)

    async def counts(self) -> dict[str, int]:
        counts: dict[str, int] = await self._ask("GET", "/v1/counts")
        return counts

    async def text(self, sender: str, recipient: str, body: str) -> None:
        """Send from a handset to a number of ours."""
        content = {"to": recipient, "body": body}
        await self._ask("POST", f"/v1/handsets/{quote(sender)}/messages", content)

    async def _ask(self, method: str, path: str, content: object = None) -> Any:
        try:
            async with self._session.request(
                method, self.url + path, json=content, timeout=aiohttp.ClientTimeout(total=ASK_S)
            ) as answer:
                if answer.status < 400:
                    return await answer.json()
                words = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = f"{type(error).__name__} {error}".strip()
        raise DrillError(
            f"the simulator did not do {method} {path} ({words})", "see its words in the folder"
        )


@contextlib.asynccontextmanager
async def phones(
    folder: Path, session: aiohttp.ClientSession, *, clock: Clock, seed: int, address: str
) -> AsyncIterator[Phones]:
    """A simulator of the drill's own, outside every host, until the block is left."""
    ready = folder.with_name(folder.name + ".ready")
    ready.unlink(missing_ok=True)
    program = Program(
        [
            *PROGRAM, "simulator", "--http", f"{address}:0", "--data", str(folder),
            "--ready-file", str(ready), "--seed", str(seed),
        ],
        words=folder.with_name(folder.name + ".words"),
    )  # fmt: skip
    try:
        if not await until(ready.exists, clock, within_s=READY_MAX_S):
            raise DrillError(
                f"the simulator did not start ({program.last_words()})", "see what it says"
            )
        facts = json.loads(ready.read_bytes())
        yield Phones(facts["simulator_url"], folder / "simulator.jsonl", session)
    finally:
        await program.end(clock)
