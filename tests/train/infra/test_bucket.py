"""A run in a bucket, in an emulator of Google Cloud Storage: a machine is lost, the run goes on."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import pytest
from etils import epath
from etils.epath.backend import fsspec_backend

from t1_jax.errors import ConfigError, RetryableError, T1Error, UnsupportedError
from t1_jax.train.infra import (
    CheckpointConfig,
    Checkpoints,
    abstract_like,
    bucket,
    bucket_of,
    checkpoint_folder,
    local_folder,
)
from tests.train.toy_runs import S1, Recorder, run_toy, toy_config

OUTPUT = Path("gs://bucket/runs/toy")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket in memory, for gcsfs and for TensorStore."""
    pytest.importorskip("gcsfs")
    server_module = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = server_module.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    yield
    server.stop()


def test_a_bucket_is_recognized_and_a_local_folder_is_itself(monkeypatch: pytest.MonkeyPatch):
    assert bucket_of(Path("runs/toy")) is None
    assert local_folder(Path("runs/toy")) == Path("runs/toy")
    assert checkpoint_folder(Path("/runs/toy")) == epath.Path("/runs/toy/checkpoints")
    monkeypatch.setattr(bucket, "find_spec", lambda name: object())
    assert str(bucket_of(OUTPUT)) == "gs://bucket/runs/toy"
    assert str(checkpoint_folder(OUTPUT)) == "gs://bucket/runs/toy/checkpoints"
    assert local_folder(OUTPUT).name == "toy"
    monkeypatch.setattr(bucket, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="gs://bucket/runs/toy is in a bucket, and gcsfs"):
        bucket_of(OUTPUT)


@pytest.mark.enable_socket
def test_a_run_goes_on_another_machine(toys, storage, tmp_path, monkeypatch):
    stages = {"s1": S1}
    output = {"output": str(OUTPUT), "checkpoints": {"every_steps": 1}}
    recorder = Recorder(monkeypatch)
    recorder.stop_after = 2
    assert run_toy(toy_config(toys, stages, **output)).stopped == "SIGTERM"
    shutil.rmtree(tmp_path / "cache")  # the machine is gone
    recorder.stop_after = None
    result = run_toy(toy_config(toys, stages, **output))
    assert (result.steps, result.stopped) == (4, None)
    assert sorted(recorder.states) == [1, 2, 3, 4]
    folder = epath.Path("gs://bucket/runs/toy")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for name in ("config.yaml", "data.json", "stages/s1/model.safetensors", "thoughts.html"):
        assert (folder / name).exists(), name
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    assert {"3", "4"} <= kept
    # The same bits as a run in a local folder.
    run_toy(toy_config(toys, stages))
    local = (toys / "run/stages/s1/model.safetensors").read_bytes()
    assert (folder / "stages/s1/model.safetensors").read_bytes() == local
    # Files of a checkpoint are lost: the run takes the one before it.
    (folder / "checkpoints/4/commit_success.txt").unlink()
    assert run_toy(toy_config(toys, stages, **output)).steps == 4
    with pytest.raises(ConfigError, match="replaces local folders only"):
        run_toy(toy_config(toys, stages, **output, overwrite=True))


@pytest.mark.enable_socket
def test_the_local_copy_mirrors_the_bucket(storage):
    remote, local = epath.Path("gs://bucket/runs/toy"), local_folder(OUTPUT)
    texts = {
        "config.yaml": "new",
        "metrics.jsonl": "1\n",
        "thoughts.jsonl": "9\n",
        "best/config.json": "{}",
        "best/model.safetensors": "new",
    }
    for name, text in texts.items():
        (remote / name).write_text(text)
    stale = {
        "config.yaml": "old",
        "data.json": "{}",
        "metrics.jsonl": "1\n2\n",
        "thoughts.jsonl": "1\n2\n",
        "stages/s1/config.json": "{}",
        "best/model.safetensors": "old",
    }
    for name, text in stale.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_text(text)
    bucket.download_run(OUTPUT)
    found = {str(p.relative_to(local)): p.read_text() for p in local.rglob("*") if p.is_file()}
    assert found == {
        "config.yaml": "new",
        "metrics.jsonl": "1\n2\n",  # the last line was not uploaded
        "thoughts.jsonl": "9\n",
        "best/config.json": "{}",
    }
    assert not (local / "stages").exists()
    remote.rmtree()
    bucket.download_run(OUTPUT)
    assert not local.exists()


@pytest.mark.enable_socket
def test_a_checkpoint_in_a_bucket_is_replaced(storage, monkeypatch):
    folder, state = epath.Path("gs://bucket/runs/c"), {"w": jnp.arange(9.0)}
    config = CheckpointConfig(metric="m")
    with Checkpoints(folder, config) as checkpoints:
        checkpoints.save(1, state, {}, {"n": 1})
        checkpoints.save(1, state, {}, {"n": 2}, {"m": 0.5}, replace=True)
        assert (checkpoints.meta(1), checkpoints.best()) == ({"n": 2}, 1)
    assert [path.name for path in folder.iterdir()] == ["1"]
    # A kill after any number of copies and removals, there or back, loses nothing.
    client, calls = fsspec_backend.fs(folder), []

    def killed_at(number: int, call: Callable[..., None]) -> Callable[..., None]:
        def counted(*paths: str) -> None:
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(paths)
            call(*paths)

        return counted

    def there_and_back(checkpoints: Checkpoints) -> None:
        checkpoints._move("1", "1.replaced")
        checkpoints._move("1.replaced", "1")

    for number in (1, 20, 33, 35, 50, 67):
        calls.clear()
        with Checkpoints(folder, config) as checkpoints:
            assert checkpoints.meta(1) == {"n": 2}
            with monkeypatch.context() as patch:
                patch.setattr(client, "cp_file", killed_at(number, client.cp_file))
                patch.setattr(client, "rm_file", killed_at(number, client.rm_file))
                with pytest.raises(KeyboardInterrupt):
                    there_and_back(checkpoints)
    with Checkpoints(folder, config) as checkpoints:
        restored = checkpoints.restore(1, abstract_like(state))
    assert restored.state["w"].tolist() == state["w"].tolist()


def test_all_processes_raise_what_the_first_could_not_upload(monkeypatch):
    monkeypatch.setattr(bucket, "find_spec", lambda name: object())
    monkeypatch.setattr(bucket.jax, "process_index", lambda: 1)
    copy = bucket.BucketCopy(OUTPUT)
    copy.upload()
    monkeypatch.setattr(bucket, "any_process", lambda flag: True)
    with pytest.raises(T1Error, match="process 0 could not write gs://bucket/runs/toy"):
        copy.upload()


def test_a_step_whose_logs_cannot_be_uploaded_is_saved(toys, monkeypatch):
    config = toy_config(toys, {"s1": S1}, checkpoints={"every_steps": 2})

    def unreachable(copy: object) -> None:
        if (toys / "run/metrics.jsonl").exists():
            raise T1Error("the bucket could not be written")

    with monkeypatch.context() as patch:
        patch.setattr(bucket.BucketCopy, "upload", unreachable)
        with pytest.raises(RetryableError, match="saved at step 2"):
            run_toy(config)
    assert run_toy(config).steps == 4


def test_a_bucket_that_cannot_be_reached_is_named(toys, monkeypatch):
    monkeypatch.setattr(bucket, "find_spec", lambda name: object())

    def unreachable(folder: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(bucket, "_files", unreachable)
    with pytest.raises(T1Error, match="gs://bucket/runs/toy could not be read: ConnectionError"):
        bucket.download_run(OUTPUT)
