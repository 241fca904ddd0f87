"""A folder as pieces of a bounded size with their hashes, and back."""

import hashlib
import json
import tarfile
from pathlib import Path

MANIFEST = "manifest.json"
KEPT_BYTES = 15 << 20
"""Of a piece that comes back: some ways from a machine take no file of more than 16 MiB."""
_BLOCK = 1 << 20


def split_folder(
    folder: Path, target: Path, *, most_bytes: int, name: str = "pack", even: bool = False
) -> list[Path]:
    """Writes `folder` as a compressed archive, cut into pieces.

    Args:
        folder: what to pack; its own name is left out.
        target: gets the pieces `<name>.00`, `<name>.01` ... and `<name>.manifest.json`.
        most_bytes: of a piece.
        name: of the pieces.
        even: all pieces have about one size, rather than the last one what is left.

    Returns:
        The pieces in order.
    """
    target.mkdir(parents=True, exist_ok=True)
    for stale in target.glob(f"{name}.*"):
        stale.unlink()
    archive = target / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, arcname=item.name)
    if even:
        size = archive.stat().st_size
        most_bytes = -(-size // -(-size // most_bytes))
    pieces = []
    with archive.open("rb") as source:
        while content := source.read(most_bytes):
            piece = target / f"{name}.{len(pieces):02d}"
            piece.write_bytes(content)
            pieces.append(piece)
    archive.unlink()
    manifest = {"pieces": {piece.name: _sha256(piece) for piece in pieces}}
    (target / f"{name}.{MANIFEST}").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return pieces


def join_folder(source: Path, target: Path, *, name: str = "pack") -> None:
    """Unpacks pieces into `target`, which must not hold other things.

    Args:
        source: a folder in which the pieces and their manifest lie, at any depth.
        target: made here.
        name: of the pieces.

    Raises:
        ValueError: a piece is missing or damaged; all of them are named.
    """
    manifests = sorted(source.rglob(f"{name}.{MANIFEST}"))
    if not manifests:
        raise ValueError(f"{source} holds no {name}.{MANIFEST}")
    expected = json.loads(manifests[0].read_text(encoding="utf-8"))["pieces"]
    found = {path.name: path for path in source.rglob(f"{name}.*")}
    faults = [f"{piece} is missing" for piece in expected if piece not in found]
    faults += [
        f"{piece} is damaged"
        for piece, sha256 in expected.items()
        if piece in found and _sha256(found[piece]) != sha256
    ]
    if faults:
        raise ValueError(f"{source}: {'; '.join(faults)}")
    target.mkdir(parents=True, exist_ok=True)
    archive = target / f".{name}.tar.gz"
    with archive.open("wb") as joined:
        for piece in expected:
            joined.write(found[piece].read_bytes())
    with tarfile.open(archive, "r:gz") as tar:
        tar.extractall(target, filter="data")
    archive.unlink()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
