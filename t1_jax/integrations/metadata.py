"""What other libraries keep of a found document beside its text."""

from typing import Any

from t1_jax.retrieval import Hit


def hit_metadata(hit: Hit) -> dict[str, Any]:
    """Title, the sentence that matched, and its file and line, which are None without a file."""
    return {
        "title": hit.title,
        "sentence": hit.sentence,
        "path": None if hit.path is None else str(hit.path),
        "line": hit.line,
    }
