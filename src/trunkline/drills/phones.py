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
    """A simulator of the drill's own, outside every host, while it is open. Raises `DrillError` when
    it refuses what it is asked."""

    def __init__(
        self, folder: Path, session: aiohttp.ClientSession, *, clock: Clock, seed: int, address: str
    ) -> None:
        self.file: Final = folder / "simulator.jsonl"
        self.url = ""
        self._folder = folder
        self._session = session
        self._clock = clock
        self._seed = seed
        self._listens_on = f"{address}:0"
        self._program: Program | None = None

    @property
    def is_open(self) -> bool:
        return self._program is not None

    async def open(self) -> None:
        """Run; again where it was, and with all that it knew, if it was closed."""
        ready = self._folder.with_name(self._folder.name + ".ready")
        ready.unlink(missing_ok=True)
        program = Program(
            [
                *PROGRAM, "simulator", "--http", self._listens_on, "--data", str(self._folder),
                "--ready-file", str(ready), "--seed", str(self._seed),
            ],
            words=self._folder.with_name(self._folder.name + ".words"),
        )  # fmt: skip
        if not await until(ready.exists, self._clock, within_s=READY_MAX_S):
            await program.end(self._clock)
            raise DrillError(
                f"the simulator did not start ({program.last_words()})", "see what it says"
            )
        self.url = json.loads(ready.read_bytes())["simulator_url"]
        self._listens_on = self.url.removeprefix("http://")
        self._program = program

    async def close(self) -> None:
        """End it in good order: nobody can connect to the carrier, and no handset sends. A second
        call does nothing."""
        program, self._program = self._program, None
        if program is not None:
            await program.end(self._clock)

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
        """Send from a handset to a number of ours; while the carrier is closed, nothing."""
        if not self.is_open:
            return
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
    """Open until the block is left."""
    made = Phones(folder, session, clock=clock, seed=seed, address=address)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
