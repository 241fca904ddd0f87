"""Train a T1 on eight animals: joint SFT and contrastive training, then GRPO.

t1 pull smollm2-135m-instruct
python examples/train_a_tiny_model.py runs/animals       # a few minutes on a CPU
"""

import sys
from pathlib import Path

from t1_jax import T1, Collection, Document, Query, load_config
from t1_jax.retrieval import save_collection
from t1_jax.train import TrainConfig, train
from t1_jax.train.data import TrainingRecord, write_records

ANIMALS = {"bee": "makes honey", "owl": "hunts at night", "cow": "gives milk", "hen": "lays eggs",
           "cat": "purrs", "dog": "barks", "frog": "croaks", "ant": "carries leaves"}  # fmt: skip
SPLITS = {"train": "which animal {}?", "validation": "who {}?"}
CONFIG = """
model: {dtype: float32, lora: {rank: 4}}
data: {lengths: {query: 64, thought: 16, document: 64}}
stages:
  joint: {losses: {sft: 1, infonce: 1}, steps: 4, data: {batch_size: 8, hard_negatives: 0}}
  grpo: {losses: {policy: 1}, steps: 2, data: {batch_size: 4, hard_negatives: 0},
         rollout: {num_generations: 4, max_thought_tokens: 16, max_rows: 16}}
validation: {max_thought_tokens: 16}
"""


def main(folder: str, model_name: str = "smollm2-135m-instruct") -> None:
    """Writes a collection and thoughts, trains on them, and searches with the best weights."""
    root = Path(folder)
    documents = tuple(Document(id=name, text=f"A {name} {does}.") for name, does in ANIMALS.items())
    collections = {
        split: Collection(
            name="animals", documents=documents, qrels={f"{split} {x}": {x: 1} for x in ANIMALS},
            queries=tuple(Query(id=f"{split} {x}", text=form.format(ANIMALS[x])) for x in ANIMALS),
        )
        for split, form in SPLITS.items()
    }  # fmt: skip
    save_collection(collections, root / "animals", overwrite=True)
    write_records(root / "records.jsonl", [
        TrainingRecord(query_id=query.id, query=query.text, positives={name: 1},
                       thoughts=(f"It is the {name}.",))
        for query, name in zip(collections["train"].queries, ANIMALS, strict=True)
    ])  # fmt: skip
    (root / "train.yaml").write_text(CONFIG)
    data = f"data.sources.animals={{collection: {root}/animals, records: [{root}/records.jsonl]}}"
    overrides = [f"output={root}/run", f"model.path={model_name}", "overwrite=true", data]
    result = train(load_config(TrainConfig, root / "train.yaml", overrides))
    for stage, metrics in result.validations.items():
        print(f"{stage}: validation nDCG@10 {metrics['validation/ndcg@10']:.3f}")
    model = T1.load(result.folder / "best", dtype="float32")
    vectors = model.encode_document([document.text for document in documents])
    scores = model.similarity(model.encode_query("who hunts mice?"), vectors)
    print("who hunts mice?", documents[scores.argmax()].text)


if __name__ == "__main__":
    main(*sys.argv[1:])
