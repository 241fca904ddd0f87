"""Writing a config as YAML that `load_config` reads back to an equal config."""

import dataclasses
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from t1_jax.files import write_atomically


def to_yaml(config: Any) -> str:
    """The config and its nested configs as YAML, every field written out, in order.

    A text with `${` reads back as a reference and one that is `???` as missing, as OmegaConf has
    it; every other value reads back equal.
    """
    return OmegaConf.to_yaml(OmegaConf.create(_plain(dataclasses.asdict(config))))


def save_config(config: Any, path: Path) -> None:
    """Writes `to_yaml(config)` to `path` in one rename."""
    write_atomically(path, to_yaml(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
