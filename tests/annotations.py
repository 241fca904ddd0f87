"""Annotated types and shapes, checked while tests run."""

from collections import Counter
from collections.abc import Callable
from types import CodeType
from typing import Any

import jax
import jaxtyping

_CHECKED_CLOSURES = 10


def check_annotations() -> None:
    """Every function of the package checks what it is annotated with; call it before imports.

    Fields of a pytree are not checked: JAX fills them with shapes and other descriptions too.

    Beartype writes a wrapper for each definition. A function inside another one is defined at
    every call, so only its first definitions are checked: the wrappers would take a third of a
    training step.
    """
    jaxtyping.install_import_hook("t1_jax", "beartype.beartype")
    whole, defined = jaxtyping.jaxtyped, Counter[CodeType]()

    def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
        decorate = whole(typechecker=typechecker)

        def decorated(target: Any) -> Any:
            if isinstance(target, type) and _is_pytree(target):
                return target
            if "<locals>" in target.__qualname__ and not isinstance(target, type):
                defined[target.__code__] += 1
                if defined[target.__code__] > _CHECKED_CLOSURES:
                    return target
            return decorate(target)

        return decorated

    # The hook looks it up here at every definition.
    setattr(jaxtyping, "jaxtyped", jaxtyped)  # noqa: B010 - as monkeypatch does


def _is_pytree(target: type) -> bool:
    """Whether JAX looks inside instances of a class."""
    try:
        return not jax.tree_util.all_leaves([object.__new__(target)])
    except AttributeError:  # of a field that the empty instance lacks
        return True
    except TypeError:  # not made by object.__new__
        return False
