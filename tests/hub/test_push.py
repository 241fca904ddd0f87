"""Uploads are checked before anything is computed; a failure says how to go on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from t1_jax.errors import ConfigError, RetryableError
from t1_jax.hub import check_push, push_folder


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")


@pytest.mark.usefixtures("logged_in")
def test_names_are_checked():
    check_push("me/my-t1")
    for name, message in (
        ("my-t1", "has no owner"),
        ("a/b/c", "not a repository"),
        ("a/..", "not"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_push(name)


def test_a_login_is_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="not logged in"):
        check_push("me/my-t1")


def test_the_repository_is_made_and_the_folder_is_one_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo_id: str, **how: Any) -> None:
            calls.append((repo_id, how))

        def upload_folder(self, **how: Any) -> SimpleNamespace:
            calls.append(("upload", how))
            return SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert push_folder(tmp_path, "me/my-t1", private=True) == "https://hub/commit/1"
    assert calls[0] == ("me/my-t1", {"private": True, "exist_ok": True})
    assert calls[1][1]["folder_path"] == tmp_path


def test_without_a_network_the_folder_stays(tmp_path: Path):
    with pytest.raises(RetryableError) as caught:  # tests are offline
        push_folder(tmp_path, "me/my-t1")
    assert "me/my-t1 was not uploaded" in caught.value.message
    assert caught.value.hint == (
        f"the folder is complete; upload it later: hf upload me/my-t1 {tmp_path}"
    )
