def test_an_index_is_exported_and_a_file_is_not_replaced(t1, pets_index, tmp_path):
    how = ("index", "export", pets_index, "--to", "parquet", "-o", tmp_path / "pets.parquet")
    answer = t1(*how)
    assert answer.code == 0, answer.err
    assert "pets.parquet: 12 documents" in answer.out
    answer = t1(*how)
    assert answer.code == 2
    assert "already exists" in answer.err
    assert t1(*how, "--overwrite", "--json").json["count"] == 12
