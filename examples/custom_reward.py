"""Write a custom reward for GRPO, and try it on sampled thoughts before training.

    t1 pull t1-smollm2-135m
    python examples/custom_reward.py

Then train with `stages.s3.reward.terms={"examples.custom_reward:new_words": 0.2}`.
"""

import sys

import numpy as np

from t1_jax import T1, SamplingParams
from t1_jax.train.data import TrainingRecord
from t1_jax.train.rewards import RewardConfig, RewardContext, compute_rewards, outcome_from_scores

DOCUMENTS = {
    "scattering": "Air scatters short wavelengths most, so the sky is blue.",
    "rust": "Iron, water and oxygen react to hydrated iron oxide.",
}
RECORDS = [
    TrainingRecord(query_id="sky", query="why is the sky blue", positives={"scattering": 1}),
    TrainingRecord(query_id="nail", query="why does a nail turn red", positives={"rust": 1}),
]


def new_words(context: RewardContext) -> np.ndarray:
    """The fraction of a thought's words that are not in the query, [P, G]; 0 without words."""
    rewards = np.zeros(context.shape)
    for p, (record, group) in enumerate(zip(context.records, context.thoughts, strict=True)):
        for g, thought in enumerate(group):
            words = thought.text.lower().split()
            rewards[p, g] = np.mean([word not in record.query for word in words] or [0.0])
    return rewards


def main(model_name: str = "t1-smollm2-135m") -> None:
    """Samples four thoughts per query, ranks the documents, and prints both rewards."""
    model = T1.load(model_name)
    given = {"n": 4, "max_thought_tokens": 24, "sampling": SamplingParams(temperature=1.0)}
    _, thoughts = model.encode_query([r.query for r in RECORDS], **given, return_thoughts=True)
    vectors = np.stack([[thought.embedding for thought in group] for group in thoughts])
    scores = vectors @ model.encode_document(list(DOCUMENTS.values())).T  # [P, G, C]
    grades = np.array([[record.positives.get(name, 0) for name in DOCUMENTS] for record in RECORDS])
    context = RewardContext(
        thoughts=thoughts,
        records=RECORDS,
        outcome=outcome_from_scores(scores, grades, np.ones_like(grades, bool)),
        max_thought_tokens=24,
    )
    terms = {"log_rank": 1.0, "examples.custom_reward:new_words": 0.2}
    rewards = compute_rewards(context, RewardConfig(terms=terms))
    for p, g in np.ndindex(context.shape):
        rank, new = (reward[p, g] for reward in rewards.terms.values())
        print(f"log_rank {rank:.2f}, new_words {new:.2f}: {thoughts[p][g].text.strip()[:60]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
