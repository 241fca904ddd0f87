"""How often a thought is the title of a document, and of a relevant one.

    python -m benchmarks.experiment.titles FOLDER...

The folders are those that `t1 evaluate -o` wrote. Case, punctuation and the words with which the
thoughts of the experiment begin (`Weakness:`, `The issue:` ...) do not count.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from t1_jax.hub import open_collection
from t1_jax.retrieval import Collection

_OPENING = re.compile(r"^(weakness|rule|the issue|this is)\b:?\s*", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for each collection and kind of sampled thought."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    print("| folder | collection | row | queries | a title | a relevant title |")
    print("|---|---|---|---:|---:|---:|")
    for folder in parser.parse_args(arguments).folders:
        for file in sorted(folder.glob("*/thoughts.jsonl")):
            name, _, split = file.parent.name.rpartition("-")
            collection = open_collection(name, split)
            for row, thoughts in _first_thoughts(file).items():
                named, relevant = title_rates(collection, thoughts)
                print(
                    f"| {folder.name} | {name}/{split} | {row} | {len(thoughts)} | {named:.3f} | "
                    f"{relevant:.3f} |"
                )


def title_rates(collection: Collection, thoughts: Iterable[tuple[str, str]]) -> tuple[float, float]:
    """Share of the queries whose thought is a title, and is that of a relevant document.

    Args:
        collection: its documents and qrels.
        thoughts: query id and thought; at least one.
    """
    titles: dict[str, set[str]] = {}
    for document in collection.documents:
        titles.setdefault(_plain(document.title), set()).add(document.id)
    titles.pop("", None)
    named = [(query, titles.get(_plain(_OPENING.sub("", text)), set())) for query, text in thoughts]
    relevant = [ids & collection.qrels.get(query, {}).keys() for query, ids in named]
    return sum(bool(ids) for _, ids in named) / len(named), sum(map(bool, relevant)) / len(named)


def _first_thoughts(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Row of the table -> query id and first sampled thought of each query."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in file.read_text().splitlines():
        entry = json.loads(line)
        if entry["sample"] == 0:
            found.setdefault(entry["row"], []).append((entry["query_id"], entry["text"]))
    return found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


if __name__ == "__main__":
    main()
