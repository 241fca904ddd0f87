"""`t1 serve`: what it rejects before it loads, and a whole life of a server."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from t1_jax.serve import ServerConfig
from tests.cli.conftest import Call
from tests.compile_cache import CompileCache

KEY = "0123456789abcdef0123"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "nothing"], "neither a folder nor a known collection"),
        (["--max-thought-tokens", "0"], "max_thought_tokens must be at least 1"),
        (["--rows", "0"], "must be at least 1"),
        (["--drain-seconds", "0"], "drain_seconds must be above 0"),
        (["--drain-seconds", "inf"], "drain_seconds must be above 0 and finite"),
        (["--deadline-seconds", "nan"], "deadline_seconds must be above 0"),
        (["--max-inputs", "0"], "max_inputs must be at least 1"),
        (["--max-k", "0"], "max_k must be at least 1"),
        (["--max-body-mb", "0"], "max-body-mb"),
        (["--max-waiting-tokens", "0"], "max_waiting_tokens must be at least 1"),
        (["--max-connections", "0"], "max_connections must be at least 1"),
        (["--api-key-file", "short.txt"], "16 or more ASCII characters"),
        (["--api-key-file", "empty.txt"], "empty.txt has no key"),
        (["--api-key-file", "missing.txt"], "No such file"),
        (["--max-thought-tokens", "9999"], "positions"),
    ],
)
def test_what_cannot_work_is_rejected_before_loading(
    t1: Call, base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], message: str,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("T1_API_KEY", raising=False)
    Path("short.txt").write_text("hunter2\n")
    Path("empty.txt").write_text("# nothing\n\n")
    answer = t1("serve", "-m", base_model, *options)
    assert answer.code == 2
    assert message in answer.err
    assert "hunter2" not in answer.err


def test_limits_are_those_of_the_options(
    t1: Call, base_model: Path, monkeypatch: pytest.MonkeyPatch
):
    given: list[ServerConfig] = []
    monkeypatch.setattr("t1_jax.cli.serve._run", lambda config, *_: given.append(config))
    monkeypatch.delenv("T1_API_KEY", raising=False)
    limits = {
        "--max-inputs": 3, "--max-k": 4, "--max-body-mb": 5, "--max-waiting-tokens": 6,
        "--max-connections": 7, "--deadline-seconds": 8.5, "--drain-seconds": 9.5, "--rows": 2,
        "--max-thought-tokens": 11,
    }  # fmt: skip
    options = [str(part) for limit in limits.items() for part in limit]
    for arguments in ([], options):
        assert t1("serve", "-m", base_model, *arguments).code == 0
    assert given == [
        ServerConfig(),
        ServerConfig(
            max_inputs=3, max_k=4, max_body_bytes=5_000_000, max_waiting_tokens=6,
            max_connections=7, deadline_seconds=8.5, drain_seconds=9.5, rows=2, max_n=2,
            max_thought_tokens=11,
        ),
    ]  # fmt: skip


@pytest.mark.enable_socket
def test_a_server_starts_answers_and_ends_at_sigterm(
    base_model: Path, pets: Path, tmp_path: Path, compile_cache: CompileCache
):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# for the test\n{KEY}\n")
    command = [
        sys.executable, "-c", "from t1_jax.cli.main import main; main()", "serve",
        "-m", str(base_model), "--index", str(pets), "--dtype", "float32", "--port", "0",
        "--api-key-file", str(keys), "--max-thought-tokens", "6", "--rows", "4",
    ]  # fmt: skip
    with compile_cache.lent(kept=True) as environment:
        environment = environment | {"T1_CACHE": str(tmp_path / "cache")}
        environment.pop("T1_API_KEY", None)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        ) as server:  # fmt: skip
            try:
                assert server.stdout is not None
                lines = iter(server.stdout.readline, "")
                url = next(line for line in lines if line.startswith("listening")).split()[2]
                assert next(lines) == "ready\n"
                body = json.dumps({"query": "who purrs?", "k": 3}).encode()
                headers = {"Authorization": f"Bearer {KEY}"}
                request = urllib.request.Request(f"{url}/v1/search", body, headers)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    (result,) = json.load(answer)["results"]
                assert len(result["hits"]) == 3
                assert len(result["thoughts"]) == 1
                server.send_signal(signal.SIGTERM)
                out, err = server.communicate(timeout=60)
            finally:
                server.kill()
    assert server.returncode in (0, -signal.SIGTERM)
    assert "who purrs" not in out + err
    assert "Traceback" not in err
