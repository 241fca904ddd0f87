"""t1.json: what is written is read; a newer or damaged one is refused."""

import json
from pathlib import Path

import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub.metadata import T1Metadata, read_metadata

METADATA = T1Metadata(
    emb_token_id=16,
    emb_token_mode="spare",
    stored_dtype="bfloat16",
    prompt={"name": "t1", "hash": "ab"},
    base_model="base",
    base_fingerprint="cd",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "t1.json").write_text(json.dumps(METADATA.to_fields()))
    assert read_metadata(tmp_path) == METADATA


def test_a_folder_that_is_no_t1_has_none(tmp_path: Path) -> None:
    assert read_metadata(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "another format than 1"),
        ({"color": "red"}, "damaged: .*color"),
        ({"emb_token_id": "16"}, "damaged: emb_token_id = '16'"),
        ({"prompt": "t1"}, "damaged: prompt = 't1'"),
        ({"base_model": None}, "damaged: base_model = None"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change, message: str) -> None:
    (tmp_path / "t1.json").write_text(json.dumps(METADATA.to_fields() | change))
    with pytest.raises(WeightsError, match=message):
        read_metadata(tmp_path)


def test_a_missing_field_is_refused(tmp_path: Path) -> None:
    fields = METADATA.to_fields()
    del fields["prompt"]
    (tmp_path / "t1.json").write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match="damaged: .*prompt"):
        read_metadata(tmp_path)
