"""`python -m benchmarks.gpu.pack`: builds what must travel to a machine that has only the packages
of constraints/gpu.txt; launch/gpu_pack.sh calls it.

The pack holds `site` (the missing packages), `flax` (the one that was tested, should the machine's
own not work), `cache` (model and collections, as `t1 pull` leaves them), `records` (training
records), `reference` (answers of this machine's CPU) and `pack.json`.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.answers import DTYPES, answers, load
from benchmarks.gpu.experiment import COLLECTIONS, ROOT, answered_collection, answering_model
from benchmarks.gpu.pieces import MANIFEST, split_folder
from benchmarks.gpu.setting import Setting
from t1_jax.hub import cache_folder, pull_collection, pull_model
from t1_jax.train.data import write_records
from t1_jax.train.thoughts import cached_source, document_pairs, template_records

_MIB = 1 << 20
_PLATFORMS = ("2_28", "2_27", "2_24", "2_17")
_MODEL = "smollm2-135m-instruct"


def main() -> None:
    """Builds the pack and cuts it into the pieces of so many trips."""
    arguments = _parse()
    output: Path = arguments.output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    content = output / "content"
    content.mkdir(parents=True)
    setting = Setting(
        pack=content, work=output / "work", output=output, seconds=0.0, toy=arguments.toy
    )
    _unpack_wheels(content / "site", ["--requirement", str(ROOT / "constraints/gpu_pack.txt")])
    _unpack_wheels(content / "flax", [_pinned("flax")])
    if not arguments.toy:
        _add_model_and_data(content)
    if arguments.earlier is not None:
        for name in ("adapters", "training", "compiled"):
            for piece in arguments.earlier.rglob(f"{name}.*"):
                shutil.copy(piece, content)
    _add_reference(setting)
    (content / "pack.json").write_text(json.dumps(_facts(), indent=1), encoding="utf-8")
    sizes = _cut(content, output, arguments.trip_mib * _MIB)
    shutil.rmtree(content)
    shutil.rmtree(setting.work, ignore_errors=True)
    for trip, size in enumerate(sizes, start=1):
        print(f"{output / str(trip)}: {size / _MIB:.1f} MiB")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch/gpu_pack.sh", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/gpu_pack"))
    parser.add_argument("--toy", action="store_true", help="what a rehearsal needs, no model")
    parser.add_argument(
        "--trip-mib", type=int, default=60, help="most MiB of a trip, this repository included"
    )
    parser.add_argument(
        "--earlier", type=Path, help="folder with what an earlier check left, to go on from there"
    )
    return parser.parse_args()


def _unpack_wheels(target: Path, wanted: list[str]) -> None:
    """Downloads wheels for CPython 3.12 on Linux x86-64 and unpacks them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    command += [f"--platform=manylinux_{version}_x86_64" for version in _PLATFORMS]
    command += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run([*command, "--dest", wheels, *wanted], check=True)
        for wheel in sorted(Path(wheels).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)


def _pinned(name: str) -> str:
    lines = (ROOT / "constraints" / "gpu.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def _add_model_and_data(content: Path) -> None:
    """Model and collections into a cache of their own, and records with their thoughts."""
    target = content / "cache"
    model = pull_model(_MODEL)
    _copy(model, target / model.relative_to(cache_folder()))
    for name in COLLECTIONS:
        folder, _ = pull_collection(name)
        _copy(folder, target / folder.relative_to(cache_folder()))
        source = cached_source(name)
        records = [*template_records(name, source), *document_pairs(name, source)]
        (content / "records").mkdir(exist_ok=True)
        write_records(content / "records" / f"{name}.jsonl", records)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _add_reference(setting: Setting) -> None:
    path, collection = answering_model(setting), answered_collection(setting)
    folder = setting.pack / "reference"
    folder.mkdir()
    for dtype in DTYPES:
        model = load(path, dtype, toy=setting.toy)
        found: dict[str, Any] = dict(answers(model, collection))
        np.savez_compressed(folder / f"{dtype}.npz", **found)


def _facts() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "commit": commit.stdout.strip(),
        "jax of the reference": version("jax"),
        "processor of the reference": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def _cut(content: Path, output: Path, trip_bytes: int) -> list[int]:
    """Equal pieces, one for each trip, in folders `1`, `2` ...; the last one has the manifest."""
    room = trip_bytes - _repository_bytes()
    if room < _MIB:
        raise SystemExit(f"the repository alone fills a trip of {trip_bytes / _MIB:.0f} MiB")
    scratch = output / "pieces"
    pieces = split_folder(content, scratch, most_bytes=room, even=True)
    for trip, piece in enumerate(pieces, start=1):
        _move(piece, output / str(trip))
    _move(scratch / f"pack.{MANIFEST}", output / str(len(pieces)))
    scratch.rmdir()
    return [
        sum(file.stat().st_size for file in (output / str(trip)).iterdir())
        for trip in range(1, len(pieces) + 1)
    ]


def _move(file: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    file.rename(folder / file.name)


def _repository_bytes() -> int:
    """Of the files that travel with every trip: all that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name.decode() for name in names.split(b"\0") if name]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
