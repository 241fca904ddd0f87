"""One process of several: `python -m tests.retriever.encode_worker ADDRESS COUNT NUMBER ...`."""

import sys
from pathlib import Path

import jax

from t1_jax.retrieval import check_corpus_file
from t1_jax.retriever import T1, Processes, encode_corpus


def main(address: str, count: str, number: str, model: str, corpus: str, output: str) -> None:
    """Encodes a corpus together with the others, or alone without an address."""
    if address:
        jax.distributed.initialize(address, int(count), int(number))
    file = check_corpus_file(Path(corpus))
    done = encode_corpus(
        T1.load(model, dtype="float32"),
        file.documents(),
        Path(output),
        count=file.count,
        encoding={},
        shard_documents=4,
        processes=Processes(index=jax.process_index(), count=jax.process_count()),
        log=print,
    )
    sys.stdout.write("joined\n" if done else "helped\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
