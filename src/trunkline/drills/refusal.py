"""Why a drill cannot be run, or not go on: a sentence for people, with what to do about it."""


class DrillError(Exception):
    """The drill came to nothing for a reason that says nothing about the system under test."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}: {mend}")
        self.what = what
        self.mend = mend


class NotRun(DrillError):
    """This machine, or this number of hosts, cannot run the drill."""


class NotRecovered(DrillError):
    """The hosts did not come back from what was done to them: the drill has failed."""
