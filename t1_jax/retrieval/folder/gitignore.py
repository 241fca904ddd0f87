"""The `.gitignore` files of a folder: what a version control leaves out is not searched either."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORED = "ignored by .gitignore"


class GitIgnore:
    """The patterns of the `.gitignore` files that were read, each for its own folder.

    Args:
        root: the folder that paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[str, GitIgnoreSpec] = {}

    def read(self, folder: Path) -> None:
        """Reads the file of a folder; one that cannot be read or parsed has no effect."""
        from pathspec import GitIgnoreSpec

        try:
            lines = (folder / ".gitignore").read_text(encoding="utf-8-sig").splitlines()
            spec = GitIgnoreSpec.from_lines(lines)
        except (OSError, ValueError):
            return
        self._specs[folder.relative_to(self._root).as_posix()] = spec

    def matches(self, path: str) -> bool:
        """Whether a path is ignored; that of a folder ends in `/`.

        The pattern of the deepest folder that has one for the path decides, as in git.
        """
        parents = [parent.as_posix() for parent in Path(path).parents]
        for parent in parents:  # the deepest first
            spec = self._specs.get(parent)
            if spec is None:
                continue
            relative = path if parent == "." else path[len(parent) + 1 :]
            included = spec.check_file(relative).include
            if included is not None:
                return included
        return False
