"""The Containerfile and the Kubernetes manifest: what they name exists, their commands parse."""

import json
import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import pytest
import yaml

from t1_jax.config import load_config
from t1_jax.parallel import make_mesh_context
from t1_jax.train import TrainConfig
from tests.cli.command_line import parse

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text()
ENTRY = ROOT / "launch" / "container_entry.sh"
INSTRUCTIONS = re.findall(
    r"^([A-Z]+) (.*)$", CONTAINERFILE.replace("\\\n", " "), flags=re.MULTILINE
)


def words_of(name: str) -> Any:
    """The JSON array of an instruction."""
    (found,) = [json.loads(value) for key, value in INSTRUCTIONS if key == name]
    return found


def test_instructions_are_known_and_files_exist():
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE",
             "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {key for key, _ in INSTRUCTIONS} <= known
    for key, value in INSTRUCTIONS:
        if key == "COPY" and not value.startswith("--from"):
            *sources, _ = shlex.split(value)
            for source in sources:
                assert (ROOT / source).exists(), source
    assert (ROOT / "constraints" / "py312.txt").exists()
    users = [value for key, value in INSTRUCTIONS if key == "USER"]
    assert users == ["10001"], "not root"


def test_its_commands_run(tmp_path: Path):
    assert words_of("ENTRYPOINT") == ["t1-serve"]
    (check,) = [value for key, value in INSTRUCTIONS if key == "HEALTHCHECK"]
    _, _, program = json.loads(check.partition("CMD ")[2])
    compile(program, "HEALTHCHECK", "exec")
    fake = tmp_path / "t1"
    fake.write_text('#!/usr/bin/env bash\necho "$*"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(**more: str) -> list[str]:
        done = subprocess.run(
            [ENTRY, *words_of("CMD")], env=environment | more, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    assert run() == [
        "pull smollm2-135m-instruct",
        "pull cwe",
        "serve --host 0.0.0.0 --port 8080 --index cwe",
    ]
    for line in run():
        parse(shlex.split(line))
    assert run(T1_PULL="")[0].startswith("serve")


def test_the_manifest_serves_with_probes_and_a_key():
    manifests = list(yaml.safe_load_all((ROOT / "launch" / "serve.yaml").read_text()))
    by_kind = {manifest["kind"]: manifest for manifest in manifests}
    assert set(by_kind) == {"Deployment", "PersistentVolumeClaim", "Service"}
    pod = by_kind["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    arguments = container["args"]
    parse(["serve", *arguments])
    drain = float(arguments[arguments.index("--drain-seconds") + 1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["env"][0]["name"] == "T1_API_KEY"
    labels = pod["metadata"]["labels"]
    assert by_kind["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert by_kind["Service"]["spec"]["selector"].items() <= labels.items()
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]
              if "persistentVolumeClaim" in v]  # fmt: skip
    assert claims == [by_kind["PersistentVolumeClaim"]["metadata"]["name"]]


@pytest.mark.parametrize("extra", ["serve", "serve,cuda"])
def test_extras_of_the_build_argument_exist(extra: str):
    text = (ROOT / "pyproject.toml").read_text()
    for name in extra.split(","):
        assert re.search(rf"^{name} = \[", text, flags=re.MULTILINE)


def test_the_jobset_of_gke_starts_a_process_on_each_host_of_its_slice():
    (job,) = yaml.safe_load_all((ROOT / "launch/gke.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (slice_,) = job["spec"]["replicatedJobs"]
    jobs = slice_["template"]["spec"]
    pod = jobs["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    columns, rows = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert jobs["completionMode"] == "Indexed"
    assert jobs["parallelism"] == jobs["completions"] == columns * rows // chips
    assert (jobs["backoffLimit"], pod["restartPolicy"]) == (0, "Never")  # the JobSet restarts all
    (script,) = container["args"]
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    assert lines[:2] == [["set", "-e"], ["cd", "/cache"]]
    commands = [words[words.index("t1") :] for words in lines if "t1" in words]
    for program, *words in commands:
        assert program == "t1"
        parse(words)
    recipe = load_config(TrainConfig, ROOT / commands[-1][2])
    devices = jax.devices()[: columns * rows]
    assert len(devices) == columns * rows
    make_mesh_context(recipe.mesh, devices=devices)
    written = {word for command in commands for flag, word in pairwise(command) if flag == "-o"}
    read = {str(file) for source in recipe.data.sources.values() for file in source.records}
    assert read <= written
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
