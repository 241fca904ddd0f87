"""Writes docs/configuration.md from the dataclasses of all configs: `make docs`."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from t1_jax.cli.quickstart_config import QuickstartConfig
from t1_jax.config import FieldDoc, describe
from t1_jax.evaluate import EvaluationConfig
from t1_jax.retrieval import FaissSettings, ScannSettings
from t1_jax.retrieval.benchmarks import Benchmark
from t1_jax.text import InstructionSet, PromptPreset
from t1_jax.train import MiningConfig, TrainConfig
from t1_jax.train.data import SplitConfig
from t1_jax.train.thoughts import TeacherConfig

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
INTRODUCTION = """\
# Configuration

<!-- Generated from the dataclasses in t1_jax by `make docs`; do not edit. -->

Every command below reads its settings from a YAML file, from `KEY=VALUE` arguments, or from both;
arguments override the file. Keys are dotted paths, `<name>` stands for a name of your choice, and
an unknown key is an error that suggests the closest known one. A file with the key
`extends: other.yaml` starts from that file; `${other.key}` and `${oc.env:NAME}` refer to other
values and to environment variables. A setting without a default is required.
"""
CONFIGS = {
    "t1 train": TrainConfig,
    "t1 evaluate": EvaluationConfig,
    "t1 quickstart": QuickstartConfig,
    "t1 mine": MiningConfig,
    "t1 thoughts write": TeacherConfig,
    "t1 collection split": SplitConfig,
    "t1 index build --kind scann": ScannSettings,
    "t1 index build --kind faiss": FaissSettings,
    "a prompt preset": PromptPreset,
    "a set of instructions": InstructionSet,
    "a benchmark": Benchmark,
}


def render() -> str:
    """The page as Markdown: a section per config, a table per group of settings."""
    sections = [section for name, cls in CONFIGS.items() for section in _sections(name, cls)]
    return "\n".join([INTRODUCTION, *sections])


def _sections(name: str, cls: type) -> Iterator[str]:
    """The config's own settings, then those of each nested config under its key."""
    fields = describe(cls)
    title = name if name.startswith("a ") else f"`{name}`"
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
    yield f"## {title}\n\n`{cls.__name__}`: {' '.join(summary.split())}\n\n{_table(fields, '')}"
    for group in (field for field in fields if field.group):
        prefix = f"{group.key}." + ("<name>." if group.type.startswith("dict") else "")
        if table := _table(fields, prefix):
            yield f"### `{prefix.removesuffix('.')}`\n\n{_sentence(group.doc)}\n\n{table}"


def _table(fields: tuple[FieldDoc, ...], prefix: str) -> str:
    """The settings directly below `prefix`; empty if there are none."""
    rows = [
        f"| `{field.key}` | {_code(field.type)} | {_default(field)} | {_cell(field.doc)} |"
        for field in fields
        if field.key.startswith(prefix) and "." not in field.key[len(prefix) :] and not field.group
    ]
    head = ["| key | type | default | description |", "|-|-|-|-|"]
    return "\n".join([*head, *rows]) + "\n" if rows else ""


def _default(field: FieldDoc) -> str:
    return "required" if field.default is None else _code(field.default)


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
