"""Whatever stands in a file of records: records, or an error that names the place."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import T1Error
from t1_jax.train.data import read_records, write_records

WHOLE = b'{"query_id": "q", "query": "why?", "positives": {"a": 2}, "negatives": ["b"]}\n'
_SCRAPS = [
    *(b'{"a": 1.0}', b'["a", 1]', b"null", b"true", b"NaN", b"1e400", b"-1", b'""', b'"\\ud800"'),
    *(b', "thought": ["x"]', b', "excluded": [1]', b', "instruction": 3', b"\xef\xbb\xbf", b"\xff"),
    *(b"[" * 9_999, b"9" * 9_999, b"\n", b"\x00", WHOLE, WHOLE.replace(b'"q"', b"7")),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "records.jsonl"


@settings(max_examples=50)
@given(data=st.data())
def test_no_content_gives_a_traceback(path: Path, data: st.DataObject):
    content = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 12)))
        scrap = data.draw(st.sampled_from(_SCRAPS) | st.binary(max_size=4))
        content = content[:start] + scrap + content[end:]
    path.write_bytes(content)
    with contextlib.suppress(T1Error):
        records = read_records(path)
        write_records(path, records)
        assert read_records(path) == records
