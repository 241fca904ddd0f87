"""Reward functions of a user: imported by path, checked, and located in error messages."""

import importlib
import inspect
import traceback
from collections.abc import Callable
from typing import Any

from t1_jax.errors import ConfigError


def import_function(path: str) -> Callable[..., Any]:
    """The function of one argument at package.module:function.

    Raises:
        ConfigError: there is no such module or function, the module fails while it is imported, or
            the function cannot be called with one argument. The error names file and line.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the module {module_name!r} cannot be imported: {describe_error(error)}",
            hint=_import_hint(error, module_name),
        ) from error
    function = vars(module).get(attribute)
    if not callable(function):
        problem = "no function" if function is None else "no function, but a value,"
        raise ConfigError(
            f"{module.__file__ or module_name} has {problem} {attribute!r}",
            hint=f"define {attribute} in it, at the top level",
        )
    check_signature(function)
    return function


def check_signature(function: Callable[..., Any]) -> None:
    """Rejects a function that cannot be called with one argument.

    Raises:
        ConfigError: the error names the function's file and line.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions in C have no signature
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise ConfigError(
            f"it cannot be called with one argument: {error} ({place_of_function(function)})",
            hint="a reward takes one argument, the RewardContext, and returns a float array [P, G]",
        ) from error


def describe_error(error: BaseException) -> str:
    """Type, message, file and line of an exception in a user's code."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    place = _place_of_error(error)
    return f"{type(error).__name__}: {error}" + ("" if place is None else f" ({place})")


def place_of_function(function: Callable[..., Any]) -> str:
    """file:line of a function, or the repr of another callable."""
    function = inspect.unwrap(function)
    if inspect.isfunction(function):
        return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
    return repr(function)


def _place_of_error(error: BaseException) -> str | None:
    """The last line in the user's file, the first file that is not the caller's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)[1:]
        if not frame.filename.startswith("<frozen ") and frame.filename != importlib.__file__
    ]
    in_file = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"{in_file[-1].filename}:{in_file[-1].lineno}" if in_file else None


def _import_hint(error: BaseException, module_name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if f"{module_name}.".startswith(f"{error.name}."):
            return (
                f"check the spelling; {error.name} must be beside the config, in the current "
                "folder, or on PYTHONPATH"
            )
        return f"install {error.name}, or take its import out of {module_name}"
    if isinstance(error, ValueError | TypeError) and not module_name.strip("."):
        return "name a reward of your own as package.module:function"
    return f"run `python -c 'import {module_name}'` shows the whole traceback"
