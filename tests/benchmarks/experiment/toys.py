"""Made-up results whose means can be worked by hand, and the folder of a made-up run."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiment.plan import Comparison, Plan, SystemConfig
from benchmarks.experiment.results import Provenance, Result, RowScores, write_result

IDS = ["q1", "q2", "q3", "q4"]


def toy_plan(results: Path, **fields: Any) -> Plan:
    """Four systems, of which a test measures as many as it likes."""
    systems = {
        "bm25": SystemConfig(label="BM25", kind="bm25"),
        "plain": SystemConfig(label="Plain", kind="no-thought", path=Path("plain")),
        "s2": SystemConfig(label="After S2", kind="t1", path=Path("s2")),
        "s3": SystemConfig(label="After S3", kind="t1", path=Path("s3")),
        "bare": SystemConfig(label="S3 bare", kind="t1", path=Path("bare"), against="s3"),
    }
    comparisons = {
        "stages": Comparison(label="S3 minus S2", first="s3", second="s2"),
        "thought": Comparison(label="thought", first="s3", second="s3/no-think"),
    }
    known: dict[str, Any] = {"systems": systems, "comparisons": comparisons, "reference": "s3"}
    return Plan(**known | {"collections": ("zoo",), "results": results} | fields)


def row(values: Sequence[float], **fields: Any) -> RowScores:
    """A row whose recall is 1 wherever its nDCG is above 0."""
    found = [float(value > 0) for value in values]
    return RowScores(values={"nDCG@10": list(values), "recall@10": found}, **fields)


def put(
    folder: Path,
    system: str,
    rows: Mapping[str, RowScores],
    *,
    measurement: str = "controls",
    settings: Mapping[str, Any] | None = None,
    model: str = "",
    ids: Sequence[str] = IDS,
    **fields: Any,
) -> Path:
    """Writes a measurement on the collection `zoo`."""
    return write_result(
        folder,
        Result(
            system=system,
            measurement=measurement,
            collection="zoo",
            split="test",
            provenance=Provenance(
                settings={"max_thought_tokens": 32} | dict(settings or {}),
                model=model or system,
                data="d",
                qrels="j",
            ),
            query_ids=list(ids) if rows else [],
            rows=rows,
            **fields,
        ),
    )


def write_run(folder: Path, model: Path, *, start: str = "base") -> Path:
    """A finished run of the stages s1 (2 steps) and s2 (3 steps), both with a model's weights."""
    folder.mkdir(parents=True)
    config = {"model": {"path": start}, "stages": {"s1": {}, "s2": {}}, "run": []}
    (folder / "config.yaml").write_text(json.dumps(config))
    lines = [{"step": 0, "validation/ndcg@10": 0.1}]
    lines += [{"step": step, "tokens": 100.0 * step} for step in range(1, 6)]
    lines[2]["validation/ndcg@10"], lines[5]["validation/ndcg@10"] = 0.25, 0.5
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 6, "tok')
    cards = {"s1": "- `s1`: 2 steps of 4 queries, losses sft 1\n"}
    cards["s2"] = cards["s1"] + "- `s2`: 3 steps of 4 queries, losses infonce 1\n"
    for name, card in cards.items():
        shutil.copytree(model, folder / "stages" / name)
        (folder / "stages" / name / "README.md").write_text(card)
    return folder
