"""A run in a bucket, in an emulator of Google Cloud Storage: a machine is lost, the run goes on."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from etils import epath

from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.train.infra import bucket, bucket_of, checkpoint_folder, local_folder
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


def test_a_bucket_that_cannot_be_reached_is_named(toys, monkeypatch):
    monkeypatch.setattr(bucket, "find_spec", lambda name: object())

    def unreachable(folder: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(bucket, "_files", unreachable)
    with pytest.raises(T1Error, match="gs://bucket/runs/toy could not be read: ConnectionError"):
        bucket.download_run(OUTPUT)
