"""Files in BRIGHT's layout with a few documents, whose scores can be worked out by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TINY = """\
extends: bright
name: tiny
title: Tiny
tasks:
  biology: {queries: 2, qrels: 3}
  pony: {queries: 1, qrels: 1}
  aops: {queries: 1, qrels: 1}
  theoremqa_questions: {queries: 1, qrels: 1}
"""
TINY_LONG = """\
extends: bright-long
name: tiny-long
title: Tiny (long)
tasks:
  biology: {queries: 2}
  pony: {queries: 1}
"""
TASKS = ("biology", "pony", "aops", "theoremqa_questions")

# Ids have spaces, as in BRIGHT; "b 3" is repeated, and "b 4" has the text of "b 1".
DOCUMENTS = {
    "biology": [
        ("b 1", "aaaa bb"),
        ("b 2", "bbbb\n"),
        ("b 3", "cccc"),
        ("b 3", "cccc"),
        ("b 4", "aaaa bb"),
        ("b 5", "aaaa"),
    ],
    "pony": [("p1", "pppp oooo"), ("p2", "nnnn"), ("p3", "yyyy")],
    "aops": [("m1", "ssss uuuu"), ("m2", "mmmm uuuu"), ("m3", "eeee vvvv")],
}
LONG_DOCUMENTS = {
    "biology": [("whole 1", "aaaa bbbb"), ("whole 2", "cccc dddd")],
    "pony": [("whole", "pppp oooo nnnn yyyy"), ("other", "zzzz")],
}


def example(
    identifier: str,
    query: str,
    gold: Sequence[str],
    *,
    gold_long: Sequence[str] = ("N/A",),
    excluded: Sequence[str] = ("N/A",),
) -> dict[str, Any]:
    return {
        "query": query,
        "reasoning": "never scored",
        "id": identifier,
        "excluded_ids": list(excluded),
        "gold_ids": list(gold),
        "gold_ids_long": list(gold_long),
        "gold_answer": "N/A",
    }


EXAMPLES = {
    "biology": [
        # "b 5" fits best and is excluded; "gone" is not in the corpus.
        example("0", "aaaa", ["b 1", "b 4"], gold_long=["whole 1"], excluded=["b 5", "gone"]),
        example("1", "bb c", ["b 3"], gold_long=["whole 2"]),
    ],
    "pony": [example("0", "oooo p", ["p1"], gold_long=["whole"])],
    "aops": [example("0", "ssss", ["m1"])],
    "theoremqa_questions": [example("t/0", "vvvv", ["m3"], excluded=["m1"])],
}


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def split_file(folder: Path, config: str, task: str) -> Path:
    return folder / config / f"{task}-00000-of-00001.parquet"


def write_bright(folder: Path) -> Path:
    """The four tasks, their long documents, and rewritten queries."""
    for task, rows in EXAMPLES.items():
        write_parquet(split_file(folder, "examples", task), rows)
        rewritten = [{**row, "query": f"{row['query']} z"} for row in rows]
        write_parquet(split_file(folder, "gpt4_reason", task), rewritten)
    for config, corpora in (("documents", DOCUMENTS), ("long_documents", LONG_DOCUMENTS)):
        for task, documents in corpora.items():
            rows = [{"id": name, "content": text} for name, text in documents]
            write_parquet(split_file(folder, config, task), rows)
    return folder
