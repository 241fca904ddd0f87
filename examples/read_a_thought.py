"""Read thoughts beside the documents that each of them retrieves.

    t1 pull t1-smollm2-135m
    python examples/read_a_thought.py "what keeps bread from rising?"

A thought is worth reading where its ranking differs from the one without a thought.
"""

import sys

from t1_jax import T1, SamplingParams

DOCUMENTS = {
    "yeast": "Yeast dies above 60 °C, and dough made with dead yeast stays flat.",
    "salt": "Too much salt slows fermentation, so the dough rises late or not at all.",
    "gluten": "Flour with little gluten cannot hold the gas that fermentation produces.",
    "oven": "A cold oven gives a pale crust and a dense crumb.",
    "water": "Hard water strengthens gluten and makes dough less sticky.",
    "sugar": "Sugar browns the crust and keeps the crumb soft for longer.",
}


def main(query: str, model_name: str = "t1-smollm2-135m") -> None:
    """Prints the ranking without a thought, then three thoughts with their rankings."""
    model = T1.load(model_name)
    names = list(DOCUMENTS)
    documents = model.encode_document(list(DOCUMENTS.values()))

    def ranking(query_vector) -> str:
        scores = model.similarity(query_vector, documents)
        return "  ".join(f"{names[row]} {scores[row]:.3f}" for row in (-scores).argsort()[:3])

    print(f"{query}\n\nwithout a thought\n  {ranking(model.encode_query(query, think=False))}")
    _, thoughts = model.encode_query(
        query,
        n=3,
        max_thought_tokens=48,
        sampling=SamplingParams(temperature=0.7, seed=0),
        return_thoughts=True,
    )
    for thought in thoughts[0]:
        end = f"{thought.reasoning_tokens} tokens, finish reason {thought.finish_reason.value}"
        print(f"\nthought {thought.sample + 1} ({end})\n  {thought.text.strip()}")
        print(f"  {ranking(thought.embedding)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
