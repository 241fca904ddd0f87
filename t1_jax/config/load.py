"""Reads a config from defaults, a YAML file and `key.sub=value`, with checked keys; writes YAML."""

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
from t1_jax.files import RESOURCES, write_atomically

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """A value of a field, with its origin (a file or an override)."""

    key: tuple[str, ...]
    value: Any
    expected: str
    origin: str


def load_config(
    cls: type[T],
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    shipped: Mapping[str, Path] | None = None,
) -> T:
    """An instance of the config `cls`: its defaults, then `path`, then `overrides` in order.

    A `path` such as `configs/evaluate.yaml` that does not exist is that of a recipe in the package.
    A file with the key `extends: other.yaml` (relative to its folder) starts from that file, and
    one with the key `extends: NAME` from the file of that name in `shipped`.
    Values follow OmegaConf: `${other.key}` and `${oc.env:NAME}` refer to other values, and a dict
    is extended, not replaced. Strings that look like numbers need quotes (`"1.10"`). In a dict of
    configs, a new name starts from the defaults of its class, an existing entry keeps the values
    that are not overridden, and names keep the order of their first occurrence.

    An override is a string such as `optimizer.rate=1e-5`, whose value is parsed as YAML. For config
    classes see the package's docstring.

    Raises:
        ConfigError: unknown key, wrong type, missing required value, malformed YAML, or a value
            that `__post_init__` of the config rejects; names file or override and dotted key.
    """
    origin = str(path or cls.__name__)
    node = OmegaConf.structured(cls)
    for setting in _settings(cls, path, overrides, shipped or {}):
        node = _applied(node, setting)
    try:
        _check_complete(node, origin)
        return _built(cls, node, key="")
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{origin}: {error.full_key}: {reason}") from error


def to_yaml(config: Any) -> str:
    """The config as YAML with all fields, in order; `load_config` reads an equal config back.

    Two strings are exceptions, as in OmegaConf: one with `${` is a reference, `???` is missing.
    """
    return OmegaConf.to_yaml(OmegaConf.create(_plain(dataclasses.asdict(config))))


def save_config(config: Any, path: Path) -> None:
    """Writes `to_yaml(config)` to a file, atomically."""
    write_atomically(path, to_yaml(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _check_complete(node: DictConfig, origin: str) -> None:
    if missing := sorted(OmegaConf.missing_keys(node)):
        raise ConfigError(
            f"{origin}: no value for {', '.join(missing)}",
            hint=f"add it to the file, or pass {missing[0]}=VALUE",
        )


def _settings(
    cls: type, path: Path | None, overrides: Sequence[str], shipped: Mapping[str, Path]
) -> Iterator[_Setting]:
    for file, tree in _chain(path, shipped):
        yield from _leaves(cls, tree, str(file))
    for override in overrides:
        yield from _leaves(cls, _read_override(override), f"override {override!r}")


def _chain(path: Path | None, shipped: Mapping[str, Path]) -> list[tuple[Path, Mapping[Any, Any]]]:
    """The file at `path` and those it extends, in the order of application."""
    chain: list[tuple[Path, Mapping[Any, Any]]] = []
    while path is not None:
        path = _located(path)
        if path.resolve() in (file.resolve() for file, _ in chain):
            raise ConfigError(f"{chain[0][0]}: circular extends of {path}")
        tree = dict(_read_yaml(path))
        base = tree.pop("extends", None)
        chain.insert(0, (path, tree))
        path = None if base is None else _base_file(path, str(base), shipped)
    return chain


def _located(path: Path) -> Path:
    """The file, or the recipe that the package has under this path (`configs/evaluate.yaml`)."""
    recipe = RESOURCES / path
    is_shipped = path.parts[:1] == ("configs",) and recipe.is_file()
    return recipe if is_shipped and not path.exists() else path


def _base_file(path: Path, base: str, shipped: Mapping[str, Path]) -> Path:
    """The file that the one at `path` extends."""
    if base in shipped:
        return shipped[base]
    if shipped and Path(base).suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"{path}: extends: {base!r} is neither a YAML file nor one of {', '.join(shipped)}",
            hint=suggestion(base, list(shipped)),
        )
    return path.parent / base


def _leaves(
    cls: type, tree: Mapping[Any, Any], origin: str, above: tuple[str, ...] = ()
) -> Iterator[_Setting]:
    """Yields a setting for each value in `tree`; an unknown field raises an error."""
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
                yield from _nested_leaves(entries, entries, fields, origin, (*key, str(entry)))
        else:
            nested = None if entries else nested_config(hints[name])
            yield from _nested_leaves(nested, hints[name], value, origin, key)


def _nested_leaves(
    nested: type | None, annotation: Any, value: Any, origin: str, key: tuple[str, ...]
) -> Iterator[_Setting]:
    """The settings of a nested config, or one setting for any other field."""
    if nested is not None and isinstance(value, Mapping) and value:
        yield from _leaves(nested, value, origin, key)
    else:
        yield _Setting(key=key, value=value, expected=type_name(annotation), origin=origin)


def _applied(node: DictConfig, setting: _Setting) -> DictConfig:
    tree = setting.value
    for part in reversed(setting.key):
        tree = {part: tree}
    key, expected = ".".join(setting.key), setting.expected
    value = f"{setting.value!r} ({type(setting.value).__name__})"
    message = f"{setting.origin}: {key} expects {expected}, got {value}"
    is_number = isinstance(setting.value, bool | int | float)
    if is_number and set(expected.split(" | ")) <= {"str", "None"}:
        raise ConfigError(message, hint=f'write it in quotes: "{setting.value}"')
    try:
        # The node has no other reference, so the copy of a safe merge is unnecessary.
        return OmegaConf.unsafe_merge(node, tree)  # pyright: ignore[reportReturnType]
    except ValidationError as error:
        raise ConfigError(message, hint=f"give {key} a value of type {expected}") from error


def _built(cls: type[T], node: DictConfig, key: str) -> T:
    """The instance of a checked node; adds the key to errors of `__post_init__`."""
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
        raise ConfigError(f"override {override!r} does not have the form key.sub=value")
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
