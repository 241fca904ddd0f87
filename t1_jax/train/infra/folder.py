"""The run folder: what was run, with what, on which data, and everything it logged.

config.yaml      the resolved config; config.before-N.yaml are those it was resumed from
versions.json    packages, devices, commit; versions.before-N.json likewise
data.json        hashes, counts and the leak report
metrics.jsonl    one line a logged step
thoughts/        samples: step-N.jsonl
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
"""Those whose version can change what a run does."""


class RunFolder:
    """One run's folder, written by process 0 alone; every process opens it.

    Args:
        path: the folder; created if it is not there.
        config: the run's config, a config dataclass.
        resume: take up a run whose config differs; the old config is kept beside the new one.
        overwrite: begin anew; the run that is there is moved aside, see `drop_overwritten`.
        free: dotted keys that may differ without being another config, such as a time limit.

    Raises:
        ConfigError: the folder's run has another config; the keys that differ are shown.
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
        self.path = Path(path)
        self._writes = jax.process_index() == 0
        check_run_folder(self.path, config, resume=resume, overwrite=overwrite, free=free)
        if jax.process_count() > 1:
            # The first must not change what others are still looking at.
            multihost_utils.sync_global_devices("run folder checked")
        self._text = to_yaml(config)
        self.overwritten: Path | None = None
        if overwrite and self._writes and self.path.exists() and any(self.path.iterdir()):
            self.overwritten = _free_name(self.path)
            self.path.rename(self.overwritten)
        if not (self.path / "config.yaml").exists():
            self.take_up()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("run folder ready")

    def take_up(self) -> None:
        """Writes the config and the versions of this session; those of former ones are kept.

        A new run's are written when its folder is opened. For a run that is there already, call it
        once nothing can refuse to go on with it.
        """
        if not self._writes:
            return
        if self.metrics_file.exists():
            write_atomically(self.metrics_file, _whole_lines(self.metrics_file))
        _replace(self.path / "config.yaml", self._text)
        _replace(self.path / "versions.json", json.dumps(versions(), indent=2) + "\n")

    def drop_overwritten(self) -> None:
        """Removes the run that was overwritten; call it once this one has something to show."""
        if self.overwritten is not None:
            shutil.rmtree(self.overwritten)
            self.overwritten = None

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    def record(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Appends a line to `metrics.jsonl` and flushes it; numbers that are not finite are null.

        Raises:
            T1Error: the disk refused it.
        """
        line = {"step": step, "time": round(time.time(), 3)}
        self._append(self.metrics_file, [line | {k: _plain(v) for k, v in metrics.items()}])

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last one cut short by a crash is left out."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in _whole_lines(self.metrics_file).split("\n")[:-1]]

    def write_data(self, facts: Mapping[str, Any]) -> None:
        """Writes `data.json`.

        Raises:
            DataError: the run was started on other data; what differs is shown.
        """
        check_data(self.path, facts)
        file = self.path / "data.json"
        if self._writes and not file.exists():
            write_atomically(file, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def write_thoughts(self, step: int, thoughts: Iterable[Mapping[str, Any]]) -> None:
        """Writes samples of thoughts to `thoughts/step-N.jsonl`, replacing those of that step."""
        if self._writes:
            lines = [json.dumps(_plain(dict(row)), ensure_ascii=False) + "\n" for row in thoughts]
            write_atomically(self.path / "thoughts" / f"step-{step}.jsonl", "".join(lines))

    def rewind(self, step: int) -> None:
        """Drops what was logged after `step`, from which the run goes on: one story is told."""
        if not self._writes:
            return
        if self.metrics_file.exists():
            kept = [line for line in self.metrics() if line["step"] <= step]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            write_atomically(self.metrics_file, text)
        for file in (self.path / "thoughts").glob("step-*.jsonl"):
            number = file.stem.removeprefix("step-")
            if number.isdigit() and int(number) > step:
                file.unlink()

    def _append(self, file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        if not self._writes:
            return
        try:
            with file.open("a", encoding="utf-8") as out:
                for row in rows:
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
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
    """Rejects a folder that `RunFolder` would not open; nothing is written.

    Raises:
        ConfigError: the folder's run has another config; the keys that differ are shown.
        T1Error: the folder holds something that is not a run.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "config.yaml").is_file():
        raise T1Error(
            f"{path} exists and is not the folder of a run: it has no config.yaml",
            hint="choose another folder",
        )
    if resume or overwrite:
        return
    former = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    differing = {
        key: values
        for key, values in _differences(former, yaml.safe_load(to_yaml(config))).items()
        if key not in free
    }
    if differing:
        raise ConfigError(
            f"{path} holds a run with another config: {_told(differing)}",
            hint="choose another folder, go on with the new config by resume=true, or "
            "begin anew with overwrite=true",
        )


def check_data(path: Path, facts: Mapping[str, Any]) -> None:
    """Rejects a run folder whose run was started on other data.

    Raises:
        DataError: it was; what differs is shown.
    """
    file = path / "data.json"
    if not file.exists():
        return
    former = json.loads(file.read_text(encoding="utf-8"))
    if differing := _differences(former, json.loads(json.dumps(facts))):
        raise DataError(
            f"{path} was trained on other data: {_told(differing)}",
            hint="train in another folder, or begin anew with overwrite=true",
        )


def _free_name(folder: Path) -> Path:
    """`NAME.before-N` beside it, for the smallest N that is not taken."""
    names = (folder.with_name(f"{folder.name}.before-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _replace(file: Path, text: str) -> None:
    """Writes a file; what stood there, if it was another text, is kept as `NAME.before-N.EXT`."""
    if file.exists() and file.read_text(encoding="utf-8") != text:
        number = len(list(file.parent.glob(f"{file.stem}.before-*{file.suffix}"))) + 1
        file.rename(file.with_name(f"{file.stem}.before-{number}{file.suffix}"))
    write_atomically(file, text)


def versions() -> dict[str, str | int | None]:
    """Python, packages, devices, and the commit where the package lies in a git checkout."""
    found: dict[str, str | int | None] = {
        "python": platform.python_version(),
        "t1_jax": t1_jax.__version__,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    device = jax.devices()[0]
    return found | {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "commit": _commit(Path(t1_jax.__file__).resolve().parents[1]),
    }


def _commit(root: Path) -> str | None:
    """The commit checked out at `root`, with `-dirty` where files differ; None if it has none."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _plain(value: Any) -> Any:
    """A value as JSON has it, in which a number is finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str | bool | int | None):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _whole_lines(file: Path) -> str:
    """A file's text up to its last line end: a crash may have cut the last line short."""
    text = file.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1]


def _differences(former: Any, fresh: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Former and fresh value of every dotted key on which two trees differ."""
    if isinstance(former, dict) and isinstance(fresh, dict):
        parts = [
            _differences(former.get(name), fresh.get(name), f"{key}.{name}" if key else str(name))
            for name in [*former, *(name for name in fresh if name not in former)]
        ]
        return {name: values for part in parts for name, values in part.items()}
    return {} if former == fresh else {key: (former, fresh)}


def _told(differing: Mapping[str, tuple[Any, Any]], most: int = 5) -> str:
    told = [f"{key} was {old!r}, is {new!r}" for key, (old, new) in differing.items()]
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
