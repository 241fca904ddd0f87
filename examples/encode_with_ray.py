"""Encode a corpus on a Ray cluster; a worker that is lost costs the shard that it was encoding.

pip install "ray[data]"; t1 pull t1-smollm2-135m
python examples/encode_with_ray.py corpus.jsonl runs/ray-index
"""

import sys
from pathlib import Path

import numpy as np
import ray

from t1_jax import T1, build_index
from t1_jax.retrieval import load_documents
from t1_jax.retriever import document_fingerprint, encoding_record, open_model


class Encoder:
    """Loads the model once per worker, and encodes a shard per call."""

    def __init__(self, model_name: str) -> None:
        self.model = T1.load(model_name)

    def __call__(self, shard: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The ids of a shard, and the embeddings of title and text."""
        vectors = self.model.encode_document(shard["full_text"].tolist())
        return {"id": shard["id"], "vector": vectors}


def main(
    corpus: str,
    output: str,
    model_name: str = "t1-smollm2-135m",
    workers: int = 2,
    shard_documents: int = 4096,
) -> None:
    """Encodes a JSONL file with _id, text and optional title, and saves an exact index."""
    collection = load_documents(Path(corpus))
    documents = [{"id": item.id, "full_text": item.full_text} for item in collection.documents]
    shards = ray.data.from_items(documents).map_batches(
        Encoder, fn_constructor_args=(model_name,), batch_size=shard_documents, concurrency=workers
    )
    vectors = {row["id"]: row["vector"] for row in shards.iter_rows()}

    ids = [item.id for item in collection.documents]
    opened = open_model(model_name)
    build_index("numpy", ids, np.stack([vectors[name] for name in ids])).save(
        Path(output),
        document_fingerprint(opened, collection.data_hash),
        encoding=encoding_record(opened, model_name, opened.preset.default_instruction),
        documents=collection.documents,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
