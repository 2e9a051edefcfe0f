"""`python -m blankcheck`."""

from blankcheck.cli.main import entry

if __name__ == "__main__":
    entry()
