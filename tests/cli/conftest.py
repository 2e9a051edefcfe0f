from __future__ import annotations

from collections.abc import Callable

import pytest

from blankcheck.cli.main import main


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """Runs a command that must end with this exit code, nothing on stdout, one line on stderr."""

    def run(*arguments: str, code: int = 2) -> str:
        capsys.readouterr()
        ended = main(list(arguments))
        out, err = capsys.readouterr()
        assert (ended, out, err.count("\n")) == (code, "", 1), (ended, out, err)
        assert err.startswith("blankcheck: error: ")
        return err

    return run
