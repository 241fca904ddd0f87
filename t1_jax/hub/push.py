"""Uploads an exported folder to the Hugging Face hub."""

from pathlib import Path

from t1_jax.errors import ConfigError, RetryableError

_NETWORK_PACKAGES = {"huggingface_hub", "httpx", "httpx2"}
"""The packages whose errors an upload raises; huggingface_hub 2 has another HTTP client than 1."""


def check_push(repo_id: str) -> None:
    """Checks name and login before anything is computed; the network is not used.

    Raises:
        ConfigError: not a repository name, or no token is stored on this machine.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(
            f"{repo_id!r} is not a repository name: {error}", hint="write it as OWNER/NAME"
        ) from error
    if repo_id.count("/") != 1:
        raise ConfigError(f"{repo_id!r} has no owner", hint="write it as OWNER/NAME")
    if get_token() is None:
        raise ConfigError(
            "this machine is not logged in to the Hugging Face hub",
            hint="run `hf auth login`, or set HF_TOKEN",
        )


def push_folder(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Uploads a folder as one commit, and creates the repository if it does not exist.

    Returns:
        The address of the commit.

    Raises:
        RetryableError: the hub cannot be reached, or rejects the upload; the folder is unchanged.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message="Upload by t1_jax"
        )
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in _NETWORK_PACKAGES and not isinstance(error, OSError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise RetryableError(
            f"{repo_id} was not uploaded: {reason}",
            hint=f"the folder is complete; upload it later: hf upload {repo_id} {folder}",
        ) from error
    return str(commit.commit_url)
