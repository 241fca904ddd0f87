"""Errors that users can cause; each message names the location and has a hint."""


class T1Error(Exception):
    """Base of all errors that are caused by input, not by a bug.

    The command line prints such an error without a traceback and exits with code 2.

    Args:
        message: problem and location (file, line, field, tensor or flag), with expected and actual
            values.
        hint: remedy, in the imperative; printed on a separate line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n  hint: {hint}")


class ConfigError(T1Error):
    """A configuration key, value or combination that is invalid."""


class RetryableError(T1Error):
    """A failure outside of the program, such as a full disk or an exception in a user's function.

    The same command may succeed later. The command line exits with code 75 (EX_TEMPFAIL of
    sysexits.h), so that a supervisor can retry.
    """


class DataError(T1Error):
    """A collection, run, qrels or record file that is malformed or inconsistent."""


class WeightsError(T1Error):
    """A checkpoint, tensor or tokenizer that is missing, damaged or of an unknown kind."""


class IndexContractError(T1Error):
    """An index that is damaged, or that belongs to another encoder, prompt or collection."""


class UnsupportedError(T1Error):
    """A combination of settings, sizes or devices that this package does not support."""
