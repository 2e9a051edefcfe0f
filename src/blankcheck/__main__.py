"""`python -m blankcheck`."""

from blankcheck.cli import entry

if __name__ == "__main__":
    entry()
