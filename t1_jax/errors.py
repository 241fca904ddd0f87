"""The errors a user can cause. Each message says where the fault is and how to hint it."""


class T1Error(Exception):
    """Base of every error that is the input's fault rather than ours.

    The command line prints such an error without a traceback and exits with code 2.

    Args:
        message: what is wrong and where: a file, line, field, tensor or flag, with expected and
            found values.
        hint: what the user can do about it, in the imperative; printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n  hint: {hint}")


class ConfigError(T1Error):
    """A configuration key, value or combination that cannot be honored."""


class RetryableError(T1Error):
    """A failure outside of the program, such as a full disk or a user's function that raised.

    The same command may succeed later. The command line exits with code 75 (EX_TEMPFAIL of
    sysexits.h), by which a supervisor knows that it may try again.
    """


class DataError(T1Error):
    """A collection, run, judgment or record file that is malformed or inconsistent."""


class WeightsError(T1Error):
    """A checkpoint, tensor or tokenizer that is missing, damaged or of an unknown kind."""


class IndexContractError(T1Error):
    """An index that is damaged, or that belongs to another encoder, prompt or collection."""


class UnsupportedError(T1Error):
    """A combination of settings, sizes or devices that this package refuses rather than ignores."""
