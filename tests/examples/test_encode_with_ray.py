"""A Ray Data job encodes a corpus, and survives the loss of a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import load_index, read_manifest
from t1_jax.retriever import T1
from t1_jax.text import T1Tokenizer
from tests.train.toy_runs import write_model

ROOT = Path(__file__).parents[2]
JOB = "from examples import encode_with_ray as job; job.main({}, {}, {}, 2, 4)"


@pytest.mark.timeout(600)
def test_a_lost_worker_costs_its_shard(tmp_path: Path, tiny_tokenizer: T1Tokenizer):
    pytest.importorskip("ray.data", reason="needs ray[data]")
    model = write_model(tmp_path / "tiny", tiny_tokenizer)
    texts = {f"d{n:02d}": f"text number {n}" for n in range(60)}
    corpus = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"_id": name, "text": text}) for name, text in texts.items()]
    corpus.write_text("\n".join(lines))
    code = JOB.format(*(repr(str(path)) for path in (corpus, tmp_path / "index", model)))
    environment = os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        lost = kill_a_worker(job)
        assert job.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert lost
    manifest = read_manifest(tmp_path / "index")
    index = load_index(tmp_path / "index", manifest.fingerprint)
    assert index.ids == tuple(texts)
    expected = T1.load(str(model)).encode_document(list(texts.values()))
    np.testing.assert_allclose(index.vectors, expected, atol=2e-2)


def kill_a_worker(job: subprocess.Popen[bytes]) -> bool:
    """Kills one of the job's workers as soon as two are there."""
    while job.poll() is None:
        workers = [pid for pid in descendants(job.pid) if is_encoder(pid)]
        if len(workers) == 2:
            time.sleep(2)  # it loads the model, or encodes
            os.kill(workers[0], signal.SIGKILL)
            return True
        time.sleep(0.1)
    return False


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, read(task).split()):
            found += [child, *descendants(child)]
    return found


def is_encoder(pid: int) -> bool:
    return "MapBatches(Encoder)" in read(Path(f"/proc/{pid}/cmdline"))


def read(path: Path) -> str:
    """The text of a file of a process; empty if it has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
