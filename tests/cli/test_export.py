import json

import pytest


def test_shards_and_both_layouts(t1, base_model, tmp_path):
    folder = tmp_path / "hf"
    answer = t1("export", base_model, folder, "--max-shard-size", "20KB", "--json",
                "--dtype", "bfloat16")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["dtype"] == "bfloat16"
    assert len(answer.json["weights"]) > 1
    assert (folder / "model.safetensors.index.json").exists()
    assert (folder / "modules.json").exists()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert "weight files" in answer.err


@pytest.mark.parametrize("size", ["big", "0", "-5GB", "5TB"])
def test_a_size_that_is_none(t1, base_model, tmp_path, size):
    answer = t1("export", base_model, tmp_path / "hf", f"--max-shard-size={size}")
    assert answer.code == 2
    assert "500MB or 2GB" in answer.err
    assert not (tmp_path / "hf").exists()


def test_an_export_is_a_model_again(t1, base_model, tmp_path):
    assert t1("export", base_model, tmp_path / "hf").code == 0
    answer = t1("import", tmp_path / "hf", tmp_path / "t1", "--json")
    assert answer.code == 0, answer.err
