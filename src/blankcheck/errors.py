"""Everything blankcheck raises on purpose.

    BlankcheckError
    ├── ArgumentError      an argument is outside what it may be
    ├── DataError          a data set cannot be found, read or used
    ├── ModelError         a classifier cannot be built, loaded or run
    └── RunFolderError     a run folder is missing, broken or not a run folder

All of them mean "the input is wrong": the command line shows one line and exits with 2. That an
image was not fooled is data, never an exception.
"""


class BlankcheckError(Exception):
    """Wrong input. The message is one line: the argument, what is allowed, what came."""


class ArgumentError(BlankcheckError):
    """An argument is outside its allowed range."""


class DataError(BlankcheckError):
    """A data set cannot be found, read or used."""


class ModelError(BlankcheckError):
    """A classifier cannot be built, loaded or run."""


class RunFolderError(BlankcheckError):
    """A run folder is missing, broken or not a run folder."""
