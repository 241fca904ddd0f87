import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file


@pytest.mark.parametrize("mode", ["append", "unused", "spare"])
def test_a_t1_folder_has_the_token_where_it_was_asked_for(
    t1, base_model, tiny_tokenizer, tmp_path, mode
):
    token_id = 3 if mode == "spare" else tiny_tokenizer.vocab_size
    folder = tmp_path / "t1"
    answer = t1("import", base_model, folder, "--emb-token", mode, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["emb_token_id"] == token_id
    assert answer.json["emb_token_mode"] == mode
    stated = json.loads((folder / "t1.json").read_text())
    assert (stated["emb_token_id"], stated["emb_token_mode"]) == (token_id, mode)


def test_stored_weights_keep_every_bit(t1, base_model, tmp_path):
    answer = t1("import", base_model, tmp_path / "t1", "--emb-token", "spare")
    assert answer.code == 0, answer.err
    assert "<emb_token> is id 3 (spare)" in answer.out
    before = load_file(base_model / "model.safetensors")
    after = load_file(tmp_path / "t1" / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    assert (before[name] == after[name]).all()


def test_a_taken_target_is_refused_before_any_work(t1, base_model, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    answer = t1("import", base_model, tmp_path)
    assert answer.code == 2
    assert "--overwrite" in answer.err
    assert (tmp_path / "mine.txt").read_text() == "precious"


def _not_a_model(folder: Path) -> Path:
    (folder / "notes.txt").write_text("hello")
    return folder


def _truncated_safetensors(folder: Path) -> Path:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1000])
    return folder


def _unknown_architecture(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mamba", "architectures": ["MambaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _unknown_rope(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    for key in ("rope_scaling", "rope_parameters"):
        config[key] = {"rope_type": "longrope", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _damaged_gguf(folder: Path) -> Path:
    (folder / "weights.gguf").write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 40)
    return folder / "weights.gguf"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_not_a_model, "is not a model"),
        (_truncated_safetensors, "model.safetensors"),
        (_unknown_architecture, "mamba"),
        (_unknown_rope, "longrope"),
        (_damaged_gguf, "weights.gguf"),
    ],
)
def test_bad_checkpoints_are_named_and_nothing_is_left(t1, base_model, tmp_path, spoil, named):
    source = tmp_path / "source"
    source.mkdir()
    if spoil is not _not_a_model:
        for file in base_model.iterdir():
            (source / file.name).write_bytes(file.read_bytes())
    answer = t1("import", spoil(source), tmp_path / "t1")
    assert answer.code == 2, answer.out
    assert named in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "t1").exists()


def test_a_model_that_is_not_here_says_how_to_get_it(t1, tmp_path):
    answer = t1("import", "smollm2-135m-instruct", tmp_path / "t1")
    assert answer.code == 2
    assert "hint: t1 pull smollm2-135m-instruct" in answer.err
    answer = t1("import", "./nowhere", tmp_path / "t1")
    assert answer.code == 2
    assert "hint: " in answer.err


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


def test_what_is_no_adapter_is_refused(t1, base_model, tmp_path):
    answer = t1("rebase", tmp_path, base_model)
    assert answer.code == 2
    assert "is not an adapter: it has no adapter_config.json" in answer.err
    answer = t1("rebase", tmp_path / "nowhere", base_model)
    assert answer.code == 2
    assert "nowhere is not an adapter: it does not exist" in answer.err


def test_an_adapter_is_told_where_its_base_is(t1, base_model, tmp_path, monkeypatch):
    from t1_jax.hub import AdapterMetadata

    asked = []

    def rebase_adapter(*given, **options):
        asked.append((given, options))
        return AdapterMetadata(
            emb_token_id=1,
            emb_token_mode="append",
            tokenizer="t",
            prompt={},
            base_model="/there",
            base_fingerprint="f",
        )

    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr("t1_jax.retriever.rebase_adapter", rebase_adapter)
    answer = t1("rebase", tmp_path, "there", "--force", "--json")
    assert answer.code == 0, answer.err
    assert asked == [((tmp_path, "there"), {"force": True})]
    assert answer.json["base_model"] == "/there"
    assert "its base model is /there" in answer.err


def test_the_card_of_an_export_is_that_of_what_is_exported(t1, base_model, tmp_path):
    assert t1("import", base_model, tmp_path / "base").code == 0
    stated = tmp_path / "base" / "t1.json"
    fields = json.loads(stated.read_text())
    assert "without retrieval training" in fields["card"]["training"]
    fields["card"] = {"license": "mit", "training": "Trained on pets.", "results": "|a|b|"}
    stated.write_text(json.dumps(fields))
    assert t1("export", tmp_path / "base", tmp_path / "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "Trained on pets." in card
    assert "## Results\n\n|a|b|" in card
    assert json.loads((tmp_path / "out" / "t1.json").read_text())["card"] == fields["card"]


def test_an_export_is_uploaded(t1, base_model, tmp_path, monkeypatch):
    pushed = []

    def push(folder, repo_id, *, private):
        pushed.append((folder, repo_id, private))
        return "https://hub/commit/1"

    monkeypatch.setattr("t1_jax.hub.push_folder", push)
    given = ("export", base_model, tmp_path / "out", "--push-to-hub", "me/my-t1", "--private")
    answer = t1(*given)
    assert answer.code == 2  # not logged in, and nothing was computed
    assert "hf auth login" in answer.err
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    answer = t1(*given, "--json")
    assert answer.code == 0, answer.err
    assert pushed == [(tmp_path / "out", "me/my-t1", True)]
    assert answer.json["commit"] == "https://hub/commit/1"
    assert 'T1.load("me/my-t1")' in (tmp_path / "out" / "README.md").read_text()
    answer = t1("export", base_model, tmp_path / "other", "--private")
    assert "--private applies to --push-to-hub" in answer.err
