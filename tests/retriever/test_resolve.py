"""What is known of a checkpoint before its weights are read."""

import json
import shutil
from pathlib import Path

import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub import open_checkpoint
from t1_jax.parallel import count_compilations
from t1_jax.retriever import T1, ResolvedModel, resolve_model
from t1_jax.text import load_preset


def resolved(folder: Path, preset: str | None = None) -> ResolvedModel:
    return resolve_model(
        open_checkpoint(folder), name=folder.name, emb_token="auto", preset=preset, adapter=None
    )


def test_it_is_what_a_loaded_model_has_and_compiles_nothing(saved_t1: Path):
    with count_compilations() as compiled:
        found = resolved(saved_t1)
    assert compiled.count == 0
    model = T1.load(saved_t1, dtype="float32")
    assert found.preset == model.preset
    assert found.tokenizer.emb_token_id == model.tokenizer.emb_token_id == found.emb.id
    assert model.provenance is not None
    assert found.provenance.fingerprint == model.provenance.fingerprint
    assert resolved(saved_t1, "t1-compact").preset == load_preset("t1-compact")


def test_prompts_that_were_changed_by_hand_are_refused(saved_t1: Path, tmp_path: Path):
    folder = Path(shutil.copytree(saved_t1, tmp_path / "changed"))
    stated = json.loads((folder / "t1.json").read_text())
    stated["prompt"]["document_template"] += " "
    (folder / "t1.json").write_text(json.dumps(stated))
    with pytest.raises(WeightsError, match="do not match the hash"):
        resolved(folder)


@pytest.mark.parametrize("prompt", [{}, {"name": 5}, {"color": "red"}], ids=str)
def test_prompts_that_are_none_are_refused(saved_t1: Path, tmp_path: Path, prompt: dict):
    folder = Path(shutil.copytree(saved_t1, tmp_path / "changed"))
    stated = json.loads((folder / "t1.json").read_text())
    (folder / "t1.json").write_text(json.dumps(stated | {"prompt": prompt}))
    with pytest.raises(WeightsError, match=r"the prompts in t1\.json are damaged"):
        resolved(folder)
