"""What users bring is code: networks, factories, data that are read when asked for, programs.

It is called here and in `outputs.run` alone. Whatever it raises, SystemExit included, says only
that the input is wrong, in one line; nobody but blankcheck ends a command.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blankcheck.errors import BlankcheckError
from blankcheck.text import one_line

NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory")
"""What torch says where memory runs out on the CPU, and where a file finds no room in it."""
MOST_LETTERS = 240
"""Of what a user's code says when it fails."""
SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
)
"""How settings of torch for the whole process are read and put back."""
NOT_OF_USERS = (
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    Path(__file__).parent,
)
"""Folders of Python, of packages, and ours."""


@contextmanager
def calling(what: str, error: type[BlankcheckError]) -> Iterator[None]:
    """Code of a user's runs inside; what it raises becomes one `error` that begins with `what`."""
    try:
        yield
    except BaseException as cause:  # SystemExit, too
        if is_no_fault(cause):
            raise
        raise error(f"{what} {said(cause, named=True)}") from cause


@contextmanager
def settings_kept(program: str) -> Iterator[None]:
    """What code inside sets for the whole process is as before afterwards: folder, precision,
    gradients, threads, warnings, what Ctrl-C does.

    program: stands in `sys.argv` inside, for modules that read the command line as they are
    imported: ours is not theirs.
    """
    folder, words, errors = Path.cwd(), sys.argv, np.geterr()
    before = [(read(), put) for read, put in SETTINGS]
    ends = signal.getsignal(signal.SIGINT)
    sys.argv = [program]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.argv = words
        os.chdir(folder)
        np.seterr(**errors)
        for value, put in before:
            put(value)
        # get_default_device of PyTorch 2.6 breaks once there is none
        if torch.empty(0).device.type != "cpu":
            torch.set_default_device(None)
        if signal.getsignal(signal.SIGINT) is not ends and ends is not None:
            signal.signal(signal.SIGINT, ends)


def is_no_fault(error: BaseException) -> bool:
    """Whether an error out of a user's code says nothing against that code: what is said in one
    line already, Ctrl-C, and memory that ran out."""
    return isinstance(error, BlankcheckError | KeyboardInterrupt | GeneratorExit) or out_of_memory(
        error
    )


def said(error: BaseException, named: bool = False) -> str:
    """What an error says in one line, and the line of the user's own file that it comes from, where
    there is one. Its name stands before, where that says more or is asked for."""
    name, place = type(error).__name__, place_of(error)
    words = one_line(error, MOST_LETTERS)
    speaks = isinstance(error, RuntimeError | ValueError) and not named
    words = words if speaks or words == name else f"{name}: {words}"
    return f"{words} ({place})" if place else words


def place_of(error: BaseException, folders: Sequence[Path] | None = None) -> str:
    """Where in a user's file an error was raised, as `net.py, line 3`; empty where no code of a
    user's took part. folders: where that lies, if it is known."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        whole = file.resolve()
        if folders is not None and not any(whole.is_relative_to(each) for each in folders):
            continue
        if file.is_file() and not any(file.is_relative_to(place) for place in NOT_OF_USERS):
            return f"{one_line(file.name, 80)}, line {line}"
    return ""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device; the CPU's allocator has no
    class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
