"""Running drills: one, or all of them, each in a folder of its own that is kept if it failed."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from trunkline.drills import abandoned
from trunkline.drills.abandoned import Note, noted
from trunkline.drills.conduct import conduct
from trunkline.drills.refusal import DrillError
from trunkline.drills.result import Overall, Result, not_run
from trunkline.drills.stage import Options, Scenario
from trunkline.kernel import SystemClock

PREFIX: Final = "trunkline-drill-"


def run_one(scenario: Scenario, options: Options, *, keep: Path | None = None) -> Result:
    """One drill from an empty folder. Its files are removed if it passed, unless they are to be
    kept in `keep`."""
    folder = keep if keep is not None else Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DrillError(f"{folder} is not empty", "name a new folder with --keep")
    abandoned.clear_up()
    note = Note(str(folder.absolute()), keep is not None, options.hosts, os.getpid())
    try:
        with noted(note):
            result: Result = uvloop.run(conduct(scenario, options, folder, SystemClock()))
    except DrillError as error:
        result = not_run(scenario.name, options, str(error), is_possible=True)
    if keep is not None or result.verdict is Overall.FAIL or result.reason:
        kept: Result = msgspec.structs.replace(result, kept=str(folder))
        return kept
    shutil.rmtree(folder, ignore_errors=True)
    return result
