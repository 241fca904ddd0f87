"""Describes the fields of a config: keys, types, defaults and documentation."""

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml


@dataclass(frozen=True, kw_only=True)
class FieldDoc:
    """A field of a config, described for docs/configuration.md and error messages.

    Attributes:
        key: dotted path from the outermost config, as in `key.sub=value`; `<name>` is a
            placeholder for the key in a dict of configs.
        type: type, such as `int | None` or `'a' | 'b'`.
        default: default value in YAML; None if a value is required.
        doc: entry under `Attributes:`; empty if there is none.
        group: whether the field is a config or a dict of configs; their fields follow.
    """

    key: str
    type: str
    default: str | None
    doc: str
    group: bool = False


@functools.cache
def describe(cls: type) -> tuple[FieldDoc, ...]:
    """All fields of the config `cls`, in order; the fields of a nested config follow it.

    Raises:
        TypeError: a config is nested where keys cannot reach it, such as in a sequence.
    """
    return tuple(_walk(cls, prefix="", instance=None))


def undocumented_fields(cls: type) -> list[str]:
    """Dotted keys without an entry under `Attributes:`; tests require that there are none."""
    return [field.key for field in describe(cls) if not field.doc]


def nested_config(annotation: Any) -> type | None:
    """The config class of a (possibly optional) nested config; None for other types."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation
    inner = [nested for part in get_args(annotation) if (nested := nested_config(part))]
    if inner and not _is_union(annotation):
        raise TypeError(
            f"{annotation}: a config cannot be nested in a sequence, in an optional dict or in a "
            "dict whose keys are not strings"
        )
    return inner[0] if inner else None


def config_entries(annotation: Any) -> type | None:
    """The config class of the entries of `dict[str, SomeConfig]`; None for other types."""
    if get_origin(annotation) is not dict:
        return None
    key, entry = get_args(annotation)
    is_config = isinstance(entry, type) and dataclasses.is_dataclass(entry)
    return entry if key is str and is_config else None


def _walk(cls: type, prefix: str, instance: object | None) -> Iterator[FieldDoc]:
    """The fields of `cls`, with the defaults of `instance` if the parent config has one."""
    docs = _attribute_docs(cls)
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        entries = config_entries(hints[field.name])
        nested = entries or nested_config(hints[field.name])
        default = _default(field) if instance is None else getattr(instance, field.name)
        yield FieldDoc(
            key=prefix + field.name,
            type=type_name(hints[field.name]),
            default=None if default is dataclasses.MISSING or nested else _as_yaml(default),
            doc=docs.get(field.name, ""),
            group=nested is not None,
        )
        if nested is not None:
            nested_default = default if isinstance(default, nested) else None
            nested_prefix = f"{prefix}{field.name}." + ("<name>." if entries else "")
            yield from _walk(nested, nested_prefix, nested_default)


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _attribute_docs(cls: type) -> dict[str, str]:
    """Field -> entry under `Attributes:` of Google-style docstrings, including base classes."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        name = ""
        for line in filter(str.strip, section.splitlines()):
            if entry := re.match(r" {4}(\w+): *(.*)", line):
                name = entry[1]
                docs[name] = entry[2]
            elif name and line.startswith(" " * 5):
                docs[name] += " " + line.strip()
            else:
                break
    return docs


def type_name(annotation: Any) -> str:
    """A field's type as a string for messages and documentation."""
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if _is_union(annotation):
        return " | ".join(type_name(part) for part in get_args(annotation))
    if entry := config_entries(annotation):
        return f"dict[str, {entry.__name__}]"
    if get_args(annotation):
        return str(annotation)
    return annotation.__name__


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _as_yaml(value: Any) -> str:
    plain = str(value) if isinstance(value, Path) else value
    plain = list(plain) if isinstance(plain, tuple) else plain
    return yaml.safe_dump(plain, default_flow_style=True, width=1 << 20).split("\n")[0]
