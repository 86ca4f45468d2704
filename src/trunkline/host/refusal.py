"""What went wrong that an operator can mend: the cause names what and to whom, the mend what to do.

The command line prints these as one sentence, without a traceback, and exits with 1, or with 2 for a
`FlagError`.
"""


class HostError(Exception):
    """The base of all that this package refuses."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(cause, mend)
        self.cause = cause
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.cause}: {self.mend}"


class ConfigError(HostError):
    """A setting cannot be used as given."""


class FlagError(ConfigError):
    """A flag cannot be used as given: the command line is wrong, and the exit code is 2."""


class DataFolderError(HostError):
    """The data folder cannot be used as it is. Nothing in it was changed."""


class FolderInUseError(DataFolderError):
    """Another process works in the data folder."""


class FormatError(DataFolderError):
    """The data folder was written by something else. Nothing in it was changed."""


class ListenError(HostError):
    """An address cannot be listened on."""


class AddressInUseError(ListenError):
    """Another process listens there."""


class EngineError(HostError):
    """The log engine cannot be found, or does not start."""


class ChildError(HostError):
    """A process of ours ended before it was ready."""


class ArchiveError(HostError):
    """A backup cannot be written, or cannot be trusted. Nothing was put in place."""
