"""`python -m trunkline` is the `trunkline` command."""

from trunkline.cli.main import run

if __name__ == "__main__":
    run()
