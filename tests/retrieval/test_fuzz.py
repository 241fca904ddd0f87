"""Fuzzed files of collections and runs: every content gives a result or a T1Error."""

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import T1Error
from t1_jax.retrieval import (
    BM25,
    load_collection,
    read_run,
    save_collection,
    score_run,
    splits_of,
    write_run,
)

FILES = {
    "corpus.jsonl": b'{"_id": "d1", "title": "a", "text": "one"}\n{"_id": "d2", "text": "two"}\n',
    "queries.jsonl": b'{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n',
    "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n",
    "excluded.jsonl": b'{"_id": "q1", "excluded": ["d2"]}\n',
    "collection.json": b'{"name": "pets", "metadata": {}, "data_hash": "", "qrels_hashes": {}}',
    "run.trec": b"q1 Q0 d1 1 2.5 tag\nq2 Q0 d2 1 1.5 tag\n",
}
_TOKENS = [
    *(b'{"_id": ', b'"d1"', b'"q1"', b"1", b"-1", b"1.0", b"1e400", b"NaN", b"null", b"true"),
    *(
        b', "text": "x"}\n',
        b', "title": []',
        b', "excluded": ["N/A"]}\n',
        b'"\\ud800"',
        b"[" * 9_999,
    ),
    *(b"q1\td1\t1\n", b"q1\td9\t1.0\n", b"q9 Q0 d1 1 1e39 t\n", b"q1 0 d1 -1\n", b"\xef\xbb\xbf"),
    *(
        b"\n",
        b"\t",
        b"\r",
        b"\x00",
        b"\xff",
        b"\x85",
        "\u2028".encode(),
        "一".encode(),
        b"\x1f\x8b",
    ),
]


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """The file with some of its bytes replaced by tokens that are difficult for parsers."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(original)))
        end = draw(st.integers(start, min(len(original), start + 12)))
        token = draw(st.sampled_from(_TOKENS) | st.binary(max_size=4))
        original = original[:start] + token + original[end:]
    return gzip.compress(original) if draw(st.booleans()) else original


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "pets"


def write(folder: Path, name: str, content: bytes) -> Path:
    is_gzip = content.startswith(b"\x1f\x8b")
    path = folder / (name + ".gz" if is_gzip else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    for former in (folder / name, folder / f"{name}.gz"):
        former.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


@settings(max_examples=50)
@given(data=st.data(), lenient=st.booleans())
def test_no_content_of_any_file_gives_a_traceback(folder: Path, data: st.DataObject, lenient: bool):
    chosen = data.draw(st.sets(st.sampled_from(sorted(FILES)), min_size=1, max_size=2))
    paths = {
        name: write(folder, name, data.draw(damaged(whole)) if name in chosen else whole)
        for name, whole in FILES.items()
        if name in chosen or name != "collection.json"
    }
    with contextlib.suppress(T1Error):
        (split,) = splits_of(folder)
        collection = load_collection(folder, split, lenient=lenient)
        run = BM25.build(collection).search(collection.queries, 10, collection.excluded)
        score_run(run, collection.all_qrels, excluded=collection.excluded)
        save_collection({split: collection}, folder / "again", overwrite=True)
        again = load_collection(folder / "again", split, lenient=bool(collection.absent_qrels))
        assert again == collection
    with contextlib.suppress(T1Error):
        run = read_run(paths["run.trec"])
        score_run(run, {"q1": {"d1": 1}, "q2": {"d2": 2}})
        write_run(run, folder / "again.trec")
        # Ids have "_" now where the run has spaces.
        again = read_run(folder / "again.trec")
        assert [sorted(row.values()) for row in again.values()] == [
            sorted(row.values()) for row in run.values()
        ]
    (folder / "collection.json").unlink(missing_ok=True)
    (folder / "collection.json.gz").unlink(missing_ok=True)
