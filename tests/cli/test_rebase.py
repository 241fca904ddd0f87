def test_what_is_no_adapter_is_refused(t1, base_model, tmp_path):
    answer = t1("rebase", tmp_path, base_model)
    assert answer.code == 2
    assert "adapter_config.json is missing" in answer.err
    answer = t1("rebase", tmp_path / "nowhere", base_model)
    assert answer.code == 2
    assert "Traceback" not in answer.err


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

    monkeypatch.setattr("t1_jax.retriever.rebase_adapter", rebase_adapter)
    answer = t1("rebase", tmp_path, "there", "--force", "--json")
    assert answer.code == 0, answer.err
    assert asked == [((tmp_path, "there"), {"force": True})]
    assert answer.json["base_model"] == "/there"
    assert "its base model is /there" in answer.err
