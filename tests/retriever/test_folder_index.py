"""An index of a folder follows its files, and encodes each text once."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from t1_jax.parallel import single_device_mesh_context
from t1_jax.retrieval import FileState, read_folder
from t1_jax.retriever import (
    T1,
    OpenedModel,
    RetrieverOptions,
    StoredIndex,
    default_index_folder,
    encoding_record,
    open_model,
    read_stored_index,
    update_index,
)
from t1_jax.text import BucketConfig

OPTIONS = RetrieverOptions(
    max_document_tokens=192,
    buckets=BucketConfig(lengths=(192,), batch_sizes=(1, 4), max_batch_tokens=1024),
)


@pytest.fixture(scope="module")
def opened(saved_t1: Path) -> OpenedModel:
    return open_model(saved_t1, dtype="float32", options=OPTIONS)


@pytest.fixture(scope="module")
def model(opened: OpenedModel) -> T1:
    return opened.load(single_device_mesh_context())


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("tea", "sky", "cat"):
        (folder / f"{name}.md").write_text(f"# {name}\n\nA note on it.\n")
    return folder


def stored_index(folder: Path) -> StoredIndex:
    stored = read_stored_index(folder)
    assert stored is not None
    return stored


def update(folder, notes, opened, load, **changes):
    stored = read_stored_index(folder)
    contents = (
        read_folder(notes) if stored is None else read_folder(notes, stored.files, stored.documents)
    )
    encoding = encoding_record(opened, "tiny", "Find it")
    settings = {"root": notes, "encoding": encoding, "opened": opened, "load": load} | changes
    return update_index(folder, stored, contents.documents, contents.files, **settings)


def test_an_update_encodes_only_new_texts_and_equals_a_rebuild(tmp_path, notes, opened, model):
    folder = tmp_path / "index"
    first = update(folder, notes, opened, lambda: model)
    assert (first.encoded, first.removed) == (3, 0)
    (notes / "tea.md").write_text("# Tea\n\nGreen tea.\n\nBlack tea.\n")
    (notes / "sky.md").rename(notes / "heaven.md")
    (notes / "cat.md").unlink()
    second = update(folder, notes, opened, lambda: model)
    assert (second.encoded, second.removed) == (1, 2)  # a renamed file keeps its embedding
    rebuilt = update(tmp_path / "rebuilt", notes, opened, lambda: model)
    assert rebuilt.encoded == 2
    assert second.index.ids == rebuilt.index.ids == ("heaven.md:3", "tea.md:3")
    np.testing.assert_allclose(second.index.vectors, rebuilt.index.vectors, atol=1e-5)
    both = [stored_index(path) for path in (folder, tmp_path / "rebuilt")]
    assert both[0].documents == both[1].documents
    assert both[0].documents[0].location == both[1].documents[0].location
    assert both[0].manifest.fingerprint == both[1].manifest.fingerprint
    sizes = [{name: state.size for name, state in stored.files.items()} for stored in both]
    assert sizes[0] == sizes[1]


def _no_weights():
    raise AssertionError("weights were read")


def test_without_a_change_nothing_is_written_and_no_weights_are_read(
    tmp_path, notes, opened, model
):
    folder = tmp_path / "index"
    update(folder, notes, opened, lambda: model)
    written = (folder / "manifest.json").stat().st_mtime_ns
    again = update(folder, notes, opened, _no_weights)
    assert (again.encoded, again.removed) == (0, 0)
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    other = encoding_record(opened, "tiny", "Another instruction")
    update(folder, notes, opened, _no_weights, encoding=other)
    stored = stored_index(folder)
    assert stored.manifest.encoding["instruction"] == "Another instruction"


def _of_other_files(opened: OpenedModel, fingerprint: str) -> OpenedModel:
    provenance = replace(opened.resolved.provenance, fingerprint=fingerprint)
    return replace(opened, resolved=replace(opened.resolved, provenance=provenance))


def test_a_model_of_other_files_with_equal_embeddings_encodes_nothing(
    tmp_path, notes, opened, model, monkeypatch
):
    folder = tmp_path / "index"
    update(folder, notes, opened, lambda: model)
    exported = _of_other_files(opened, "ab" * 32)
    assert update(folder, notes, exported, lambda: model).encoded == 0
    assert stored_index(folder).manifest.fingerprint.encoder == exported.fingerprint
    assert update(folder, notes, exported, _no_weights).encoded == 0
    shorter = replace(exported, options=replace(OPTIONS, max_document_tokens=64))
    assert update(folder, notes, shorter, lambda: model).encoded == 3
    monkeypatch.setattr("t1_jax.retriever.folder_index.lowest_canary_cosine", lambda *_: 0.998)
    trained = _of_other_files(shorter, "cd" * 32)
    assert update(folder, notes, trained, lambda: model).encoded == 3


def test_another_model_encodes_everything_again(tmp_path, notes, opened, model, saved_t1):
    folder = tmp_path / "index"
    update(folder, notes, opened, lambda: model)
    other = open_model(saved_t1, dtype="bfloat16", options=OPTIONS)
    assert update(folder, notes, other, lambda: model).encoded == 3


def test_what_was_encoded_before_an_interrupt_is_kept(tmp_path, notes, opened, model, monkeypatch):
    monkeypatch.setattr("t1_jax.retriever.folder_index._BLOCK", 2)
    folder, encode, calls = tmp_path / "index", model.encode_document, []

    def interrupted(texts):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(model, "encode_document", interrupted)
    with pytest.raises(KeyboardInterrupt):
        update(folder, notes, opened, lambda: model)
    assert update(folder, notes, opened, lambda: model).encoded == 1
    assert len(stored_index(folder).files) == 3


def test_a_damaged_index_is_built_again(tmp_path, notes, opened, model):
    folder = tmp_path / "index"
    update(folder, notes, opened, lambda: model)
    (folder / "vectors.npy").write_bytes(b"damaged")
    assert read_stored_index(folder) is None
    assert update(folder, notes, opened, lambda: model).encoded == 3
    stored = stored_index(folder)
    assert all(isinstance(state, FileState) for state in stored.files.values())


def test_the_index_of_a_folder_lies_in_the_cache_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    one, two = tmp_path / "a" / "notes", tmp_path / "b" / "notes"
    assert default_index_folder(one).parent == tmp_path / "cache" / "indexes"
    assert default_index_folder(one).name.startswith("notes-")
    assert default_index_folder(one) != default_index_folder(two)
    monkeypatch.chdir(tmp_path)
    assert default_index_folder(Path("a/notes")) == default_index_folder(one)


def test_two_searches_of_one_folder_wait_for_each_other(tmp_path, notes, opened, model):
    """The second one takes what the first has written, and encodes nothing."""
    folder = tmp_path / "index"
    lock = FileLock(tmp_path / ".index.lock")
    lock.acquire()
    lines: list[str] = []

    def first_search_ends(line: str) -> None:
        lines.append(line)
        shutil.copytree(tmp_path / "written", folder)
        lock.release()

    update(tmp_path / "written", notes, opened, lambda: model)
    second = update(folder, notes, opened, lambda: pytest.fail("loaded"), log=first_search_ends)
    assert lines == [f"another process is updating {folder}; waiting for it"]
    assert (second.encoded, second.removed) == (0, 0)
    assert stored_index(folder).manifest == stored_index(tmp_path / "written").manifest


def test_many_threads_leave_one_whole_index(tmp_path, notes, opened, model):
    folder = tmp_path / "index"
    with ThreadPoolExecutor(4) as pool:
        updates = list(pool.map(lambda _: update(folder, notes, opened, lambda: model), range(8)))
    assert sum(done.encoded for done in updates) == 3
    assert {done.index.ids for done in updates} == {stored_index(folder).table.ids}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".index.lock", "index", "notes"]


def test_a_first_search_says_how_long_it_takes(tmp_path, notes, opened, model):
    for number in range(40):
        (notes / f"n{number}.md").write_text(f"# {number}\n\nNote number {number}.\n")
    lines: list[str] = []
    done = update(tmp_path / "index", notes, opened, lambda: model, log=lines.append)
    assert done.encoded == 43
    (line,) = lines
    assert line.startswith("43 passages to encode, about ")
    assert line.endswith(" s; later searches encode only what has changed")
    update(tmp_path / "index", notes, opened, lambda: model, log=lines.append)
    assert len(lines) == 1
