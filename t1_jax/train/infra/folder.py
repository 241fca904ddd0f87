"""The run folder: config, versions, data report, metrics and sampled thoughts.

config.yaml      the resolved config; config.before-N.yaml: configs of earlier sessions
versions.json    packages, devices, commit; versions.before-N.json likewise
data.json        hashes, counts and the leak report
metrics.jsonl    one line per logged step
thoughts.jsonl   sampled thoughts of every step, with their rewards; thoughts.html: to read
checkpoints/     see `Checkpoints`
"""

import json
import math
import platform
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import jax
import yaml
from jax.experimental import multihost_utils

import t1_jax
from t1_jax.config import to_yaml
from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.files import write_atomically
from t1_jax.train.infra.bucket import BucketCopy, checkpoint_folder, local_folder
from t1_jax.train.infra.page import thoughts_page

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "transformers",
    "tokenizers",
    "scann",
)
"""Packages whose version can change results."""


class RunFolder:
    """The folder of a run. All processes open it; only process 0 writes.

    Args:
        path: the folder; created if missing. Of one in a bucket, a local copy is opened.
        config: the run's config, a dataclass.
        resume: resume a run with a different config; the old config is kept beside the new one.
        overwrite: start a new run; the old one is moved aside, see `drop_overwritten`.
        free: dotted keys whose values may differ on resuming, such as a time limit.

    Attributes:
        path: see above; local.
        checkpoints: the folder of the checkpoints.
        overwritten: where the old run was moved; None if there is none.

    Raises:
        ConfigError: the run in the folder has another config; names the keys that differ.
        T1Error: the folder holds something that is not a run.
    """

    def __init__(
        self,
        path: Path,
        config: Any,
        *,
        resume: bool = False,
        overwrite: bool = False,
        free: Collection[str] = (),
    ) -> None:
        self.path = local_folder(path)
        self.checkpoints = checkpoint_folder(path)
        self._copy = BucketCopy(path)
        self._writes = jax.process_index() == 0
        check_run_folder(self.path, config, resume=resume, overwrite=overwrite, free=free)
        if jax.process_count() > 1:
            # Process 0 must not change what the others are still reading.
            multihost_utils.sync_global_devices("run folder checked")
        self._text = to_yaml(config)
        self.overwritten: Path | None = None
        if overwrite and self._writes and self.path.exists() and any(self.path.iterdir()):
            self.overwritten = _free_name(self.path)
            self.path.rename(self.overwritten)
        if not (self.path / "config.yaml").exists():
            self.commit()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("run folder ready")

    def commit(self) -> None:
        """Writes the config and versions of this session; those of earlier sessions are kept.

        A new run commits when its folder is opened. A resumed run commits once nothing can reject
        it any more.
        """
        if not self._writes:
            return
        for file in (self.metrics_file, self.thoughts_file):
            if file.exists():
                write_atomically(file, _whole_lines(file))
        _replace(self.path / "config.yaml", self._text)
        _replace(self.path / "versions.json", json.dumps(versions(), indent=2) + "\n")

    def drop_overwritten(self) -> None:
        """Removes the overwritten run; call it once this run is saved."""
        if self.overwritten is not None:
            shutil.rmtree(self.overwritten)
            self.overwritten = None

    def upload(self) -> None:
        """Uploads what was written, if the run is in a bucket; all processes call it together.

        Raises:
            T1Error: the bucket cannot be written; on all processes.
        """
        self._copy.upload()

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def thoughts_file(self) -> Path:
        """`thoughts.jsonl`."""
        return self.path / "thoughts.jsonl"

    def record(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Appends a line to `metrics.jsonl` and flushes it; non-finite numbers become null.

        Raises:
            T1Error: the write failed.
        """
        self._append(self.metrics_file, [{"step": step, "time": round(time.time(), 3), **metrics}])

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, without a last line that a crash truncated."""
        return _read(self.metrics_file)

    def thoughts(self) -> list[dict[str, Any]]:
        """The lines of `thoughts.jsonl`; see `metrics`."""
        return _read(self.thoughts_file)

    def write_data(self, facts: Mapping[str, Any]) -> None:
        """Writes `data.json`.

        Raises:
            DataError: the run was started on other data; names what differs.
        """
        check_recorded_data(self.path, facts)
        file = self.path / "data.json"
        if self._writes and not file.exists():
            write_atomically(file, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def write_thoughts(self, step: int, thoughts: Iterable[Mapping[str, Any]]) -> None:
        """Appends sampled thoughts to `thoughts.jsonl`; see `record`."""
        self._append(self.thoughts_file, [{"step": step, **row} for row in thoughts])

    def truncate_logs(self, step: int) -> None:
        """Removes metrics and thoughts that were logged after `step`, where the run resumes."""
        if not self._writes:
            return
        for file in (self.metrics_file, self.thoughts_file):
            if file.exists():
                lines = [line for line in _read(file) if line["step"] <= step]
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                write_atomically(file, text)

    def write_thoughts_page(self) -> None:
        """Writes `thoughts.html`: the thoughts and rewards so far.

        Raises:
            T1Error: the write failed.
        """
        if self._writes and (thoughts := self.thoughts()):
            page = thoughts_page(self.path.name, self.metrics(), thoughts)
            write_atomically(self.path / "thoughts.html", page)

    def _append(self, file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        if not self._writes:
            return
        lines = [json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows]
        try:
            with file.open("a", encoding="utf-8") as out:
                out.writelines(lines)
        except OSError as error:
            raise T1Error(
                f"{file} could not be written: {error.strerror or error}",
                hint="free disk space or check permissions, then run the command again to resume",
            ) from error


def check_run_folder(
    path: Path,
    config: Any,
    *,
    resume: bool = False,
    overwrite: bool = False,
    free: Collection[str] = (),
) -> None:
    """Rejects a folder that `RunFolder` would reject, without writing anything."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "config.yaml").is_file():
        raise T1Error(
            f"{path} exists and is not the folder of a run: it has no config.yaml",
            hint="choose another folder",
        )
    if resume or overwrite:
        return
    old = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    changes = _differences(old, yaml.safe_load(to_yaml(config)))
    if differing := {key: values for key, values in changes.items() if key not in free}:
        raise ConfigError(
            f"{path} holds a run with another config: {_summary(differing)}",
            hint="choose another folder, resume with the new config by resume=true, or start a new "
            "run with overwrite=true",
        )


def check_recorded_data(path: Path, facts: Mapping[str, Any]) -> None:
    """Rejects a run folder whose run was started on other data.

    Raises:
        DataError: `data.json` differs; names what differs.
    """
    file = path / "data.json"
    if not file.exists():
        return
    old = json.loads(file.read_text(encoding="utf-8"))
    if differing := _differences(old, json.loads(json.dumps(facts))):
        raise DataError(
            f"{path} was trained on other data: {_summary(differing)}",
            hint="train in another folder, or start a new run with overwrite=true",
        )


def _free_name(folder: Path) -> Path:
    """`NAME.before-N` beside it, for the smallest N that is not taken."""
    names = (folder.with_name(f"{folder.name}.before-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _replace(file: Path, text: str) -> None:
    """Writes a file; an existing file with another text is kept as `NAME.before-N.EXT`."""
    if file.exists() and file.read_text(encoding="utf-8") != text:
        number = len(list(file.parent.glob(f"{file.stem}.before-*{file.suffix}"))) + 1
        file.rename(file.with_name(f"{file.stem}.before-{number}{file.suffix}"))
    write_atomically(file, text)


def versions() -> dict[str, str | int | None]:
    """Python, packages, devices, and the commit if the package is in a git checkout."""
    packages: dict[str, str | int | None] = {
        "python": platform.python_version(),
        "t1_jax": t1_jax.__version__,
    }
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    device = jax.devices()[0]
    return packages | {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "commit": _commit(Path(t1_jax.__file__).resolve().parents[1]),
    }


def _commit(root: Path) -> str | None:
    """The commit checked out at `root`, with `-dirty` if files differ; None without git."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _plain(value: Any) -> Any:
    """The value as JSON; non-finite numbers become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str | bool | int | None):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _whole_lines(file: Path) -> str:
    """The text of a file up to its last line end; a crash may truncate the last line."""
    text = file.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1]


def _read(file: Path) -> list[dict[str, Any]]:
    """The objects of a log, without a last line that a crash truncated."""
    if not file.exists():
        return []
    return [json.loads(line) for line in _whole_lines(file).split("\n")[:-1]]


def _differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> old and new value, where two trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [
            _differences(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
            for name in [*old, *(name for name in new if name not in old)]
        ]
        return {name: values for part in parts for name, values in part.items()}
    return {} if old == new else {key: (old, new)}


def _summary(differing: Mapping[str, tuple[Any, Any]], limit: int = 5) -> str:
    changes = [f"{key} was {old!r}, is {new!r}" for key, (old, new) in differing.items()]
    more = f"; and {len(changes) - limit} more" if len(changes) > limit else ""
    return "; ".join(changes[:limit]) + more
