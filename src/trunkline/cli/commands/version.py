"""`trunkline version`: which version this is, for a report or a script."""

from trunkline.version import __version__


def command() -> None:
    """Show the version."""
    print(f"trunkline {__version__}")
