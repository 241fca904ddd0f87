"""T1 retrieves by thinking. The public names, each imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t1_jax.config import load_config as load_config
    from t1_jax.errors import T1Error as T1Error
    from t1_jax.text import PromptPreset as PromptPreset
    from t1_jax.text import load_preset as load_preset

__version__ = "0.1.0"

# Where each public name lives. `import t1_jax` itself touches none of these rooms.
_HOME = {
    "PromptPreset": "t1_jax.text",
    "T1Error": "t1_jax.errors",
    "load_config": "t1_jax.config",
    "load_preset": "t1_jax.text",
}

__all__ = ["PromptPreset", "T1Error", "__version__", "load_config", "load_preset"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 't1_jax' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
