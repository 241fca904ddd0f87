"""Reading a config: defaults, then a YAML file, then `key.sub=value`, each key checked."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from t1_jax.config.describe import config_entries, describe, nested_config, type_name
from t1_jax.config.suggest import suggestion
from t1_jax.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One value for one field, and where it was written (a file, or an override)."""

    key: tuple[str, ...]
    value: Any
    expected: str
    origin: str


def load_config(cls: type[T], path: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """An instance of the config `cls`: its defaults, then `path`, then `overrides` in order.

    A file with the key `extends: other.yaml` (a path relative to its own) starts from that file.
    Values follow OmegaConf: `${other.key}` and `${oc.env:NAME}` refer to other values, and a dict
    field is extended rather than replaced. A text must be written as one (`"1.10"`, not `1.10`).
    In a dict of configs a new name starts from the defaults of its class, entries that stood there
    keep what is not given anew, and names keep the order in which they first appear.

    Args:
        cls: a config class, see the package's docstring.
        path: a YAML file with a mapping of field names to values.
        overrides: texts such as `optimizer.rate=1e-5`; the value is read as YAML.

    Raises:
        ConfigError: naming the file or override and the dotted key: an unknown key, a value of
            another type, a mandatory key without a value, malformed YAML, or a value that the
            config's own `__post_init__` refuses.
    """
    origin = str(path or cls.__name__)
    node = OmegaConf.structured(cls)
    for setting in _settings(cls, path, overrides):
        node = _applied(node, setting)
    try:
        _refuse_missing(node, origin)
        return _built(cls, node, key="")
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{origin}: {error.full_key}: {reason}") from error


def _refuse_missing(node: DictConfig, origin: str) -> None:
    if missing := sorted(OmegaConf.missing_keys(node)):
        raise ConfigError(
            f"{origin}: no value for {', '.join(missing)}",
            hint=f"add it to the file, or pass {missing[0]}=VALUE",
        )


def _settings(cls: type, path: Path | None, overrides: Sequence[str]) -> Iterator[_Setting]:
    for file, tree in _chain(path):
        yield from _leaves(cls, tree, str(file))
    for override in overrides:
        yield from _leaves(cls, _read_override(override), f"override {override!r}")


def _chain(path: Path | None) -> list[tuple[Path, Mapping[Any, Any]]]:
    """The file at `path` and those it extends, the one to apply first in front."""
    chain: list[tuple[Path, Mapping[Any, Any]]] = []
    while path is not None:
        if path.resolve() in (file.resolve() for file, _ in chain):
            raise ConfigError(f"{chain[0][0]}: extends {path}, which extends it in turn")
        tree = dict(_read_yaml(path))
        base = tree.pop("extends", None)
        chain.insert(0, (path, tree))
        path = None if base is None else path.parent / str(base)
    return chain


def _leaves(
    cls: type, tree: Mapping[Any, Any], origin: str, above: tuple[str, ...] = ()
) -> Iterator[_Setting]:
    """The values in `tree` by the field of `cls` they belong to; an unknown field is an error."""
    hints = get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    for name, value in tree.items():
        key = (*above, str(name))
        if name not in names:
            prefix = "".join(f"{part}." for part in above)
            known = [prefix + field.key for field in describe(cls)]
            raise ConfigError(
                f"{origin}: unknown key {'.'.join(key)!r}", hint=suggestion(".".join(key), known)
            )
        entries = config_entries(hints[name])
        if entries is not None and isinstance(value, Mapping):
            for entry, fields in value.items():
                yield from _below(entries, entries, fields, origin, (*key, str(entry)))
        else:
            nested = None if entries else nested_config(hints[name])
            yield from _below(nested, hints[name], value, origin, key)


def _below(
    nested: type | None, annotation: Any, value: Any, origin: str, key: tuple[str, ...]
) -> Iterator[_Setting]:
    """The values inside a field, where it is a config and some of its fields are given."""
    if nested is not None and isinstance(value, Mapping) and value:
        yield from _leaves(nested, value, origin, key)
    else:
        yield _Setting(key=key, value=value, expected=type_name(annotation), origin=origin)


def _applied(node: DictConfig, setting: _Setting) -> DictConfig:
    tree = setting.value
    for part in reversed(setting.key):
        tree = {part: tree}
    key, expected = ".".join(setting.key), setting.expected
    found = f"{setting.value!r} ({type(setting.value).__name__})"
    wrong = f"{setting.origin}: {key} expects {expected}, got {found}"
    is_number = isinstance(setting.value, bool | int | float)
    if is_number and set(expected.split(" | ")) <= {"str", "None"}:
        raise ConfigError(wrong, hint=f'write it in quotes: "{setting.value}"')
    try:
        # Not the safe one, which copies the whole node each time: this one is nobody else's.
        return OmegaConf.unsafe_merge(node, tree)  # pyright: ignore[reportReturnType]
    except ValidationError as error:
        raise ConfigError(wrong, hint=f"give {key} a value of type {expected}") from error


def _built(cls: type[T], node: DictConfig, key: str) -> T:
    """The dataclass instance a checked node stands for; the config's own refusals gain its key."""
    hints = get_type_hints(cls)
    values = {}
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        value, path = node[field.name], f"{key}.{field.name}" if key else field.name
        entries = config_entries(hints[field.name])
        nested = None if entries else nested_config(hints[field.name])
        if entries is not None:
            value = {name: _built(entries, value[name], f"{path}.{name}") for name in value}
        elif nested is not None and value is not None:
            value = _built(nested, value, path)
        elif OmegaConf.is_config(value):
            value = OmegaConf.to_object(value)
        values[field.name] = value
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{key or cls.__name__}: {error.message}", hint=error.hint) from error


def _read_yaml(path: Path) -> Mapping[Any, Any]:
    try:
        tree = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(
            f"{path}{line}: not well-formed YAML: {error.problem}",
            hint="check the brackets, quotes and indentation around that line",
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} cannot be read as a config: {error}", hint="give the path of a YAML file"
        ) from error
    return _mapping(tree, str(path))


def _read_override(override: str) -> Mapping[Any, Any]:
    key, equals, _ = override.partition("=")
    if not key.strip() or not equals:
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    try:
        tree = OmegaConf.from_dotlist([override])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"override {override!r}: the value is not well-formed YAML",
            hint=f"quote it: {key}='\"...\"'",
        ) from error
    return _mapping(tree, f"override {override!r}")


def _mapping(tree: Any, origin: str) -> Mapping[Any, Any]:
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{origin}: expected field names with values, got a list")
    plain = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(plain, Mapping)
    return plain
