"""mteb runs T1; needs the extra `mteb`, which brings PyTorch."""

import warnings
from typing import Any

import numpy as np
import pytest

from t1_jax.evaluate import EvaluationConfig, ModelFacts, evaluate_collection
from t1_jax.retrieval import Collection, Document, Query
from t1_jax.retriever import T1
from t1_jax.text import load_preset

pytest.importorskip("torch", reason="needs t1_jax[mteb]")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of mteb's own dependencies
    mteb: Any = pytest.importorskip("mteb", reason="needs t1_jax[mteb]")

    from datasets import Dataset
    from mteb.mocks.mock_tasks import MockRetrievalTask
    from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

    from t1_jax.integrations.mteb import T1Encoder, bright_task, model_meta, query_instruction

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TEXTS = {
    "cat": "A cat purrs and hunts mice.",
    "dog": "A dog barks and guards the door.",
    "owl": "An owl hunts mice at night.",
    "bee": " A bee makes honey from flowers. ",
    "copy": "A cat purrs and hunts mice.",
    "a fish": "A fish swims in water.",
}
QUERIES = {"q1": "who purrs?", "q2": "who hunts at night", "q3": "who makes honey"}
QRELS = {"q1": {"cat": 2, "copy": 1}, "q2": {"owl": 1, "cat": 1}, "q3": {"bee": 1}}
TITLES = {"cat": "Cats", "owl": "Owls of the night"}
COLLECTION = Collection(
    name="pets",
    documents=tuple(
        Document(id=name, text=text, title=TITLES.get(name, "")) for name, text in TEXTS.items()
    ),
    queries=tuple(Query(id=name, text=text) for name, text in QUERIES.items()),
    qrels=QRELS,
)


class PetsTask(MockRetrievalTask):
    """A task of mteb with local data."""

    metadata = MockRetrievalTask.metadata.model_copy(
        update={
            "name": "PetsRetrieval",
            "eval_splits": ["test"],
            "prompt": {"query": "Given a riddle, name the animal: "},
        }
    )

    def load_data(self, *args: Any, **kwargs: Any) -> None:
        documents = [
            {"id": item.id, "title": item.title, "text": item.text} for item in COLLECTION.documents
        ]
        queries = [{"id": item.id, "text": item.text} for item in COLLECTION.queries]
        part = {
            "corpus": Dataset.from_list(documents),
            "queries": Dataset.from_list(queries),
            "relevant_docs": {key: dict(labels) for key, labels in QRELS.items()},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": part}}
        self.data_loaded = True


def search(encoder: T1Encoder, **options: Any) -> Any:
    """Indexes and searches as mteb's retrieval evaluator does."""
    task = PetsTask()
    task.load_data()
    part = task.dataset["default"]["test"]
    common: dict[str, Any] = {
        "task_metadata": task.metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": 32},
    }
    encoder.index(part["corpus"], **common)
    return encoder.search(part["queries"], **common, **options)


@pytest.fixture(scope="module")
def encoder(tiny_t1: T1) -> T1Encoder:
    return T1Encoder(tiny_t1, max_thought_tokens=4)


def test_it_has_both_protocols_of_mteb(encoder: T1Encoder):
    assert isinstance(encoder, EncoderProtocol)
    assert isinstance(encoder, SearchProtocol)


def test_a_task_of_mteb_gives_the_scores_of_our_own_command(tiny_t1: T1, encoder: T1Encoder):
    """Title, text, instruction, thoughts, ranking and ties are the same on both ways."""
    config = EvaluationConfig(
        controls=("own",),
        max_thought_tokens=4,
        sampling=tiny_t1.options.sampling,
        instruction="Given a riddle, name the animal",
        metrics=("nDCG@10", "nDCG@1", "recall@10", "recall@1", "MAP@3", "MRR"),
        bm25=False,
        bootstrap_samples=10,
    )
    facts = ModelFacts(name="tiny", encoder="e", prompt="p")
    ours = evaluate_collection(tiny_t1, COLLECTION, config, facts=facts).rows[0]
    result = mteb.evaluate(encoder, PetsTask(), cache=None, show_progress_bar=False)
    (task_result,) = result.task_results
    (scores,) = task_result.scores["test"]
    for name, key in (
        ("nDCG@10", "ndcg_at_10"),
        ("nDCG@1", "ndcg_at_1"),
        ("recall@10", "recall_at_10"),
        ("recall@1", "recall_at_1"),
        ("MAP@3", "map_at_3"),
        ("MRR", "mrr_at_10"),
    ):
        # mteb rounds some of them to five digits.
        assert scores[key] == pytest.approx(float(ours.values[name].mean()), abs=6e-6), name
    assert set(encoder.thoughts) == set(QUERIES)
    run = search(encoder, top_k=100)
    assert {query_id: list(scores) for query_id, scores in run.items()} == {
        query_id: list(scores) for query_id, scores in ours.run.items()
    }
    for query_id, scores_of_query in run.items():
        assert scores_of_query == pytest.approx(ours.run[query_id], abs=1e-6)
    for query_id, thoughts in ours.thoughts.items():
        assert [item.text for item in encoder.thoughts[query_id]] == [t.text for t in thoughts]


def test_all_mock_tasks_pass(encoder: T1Encoder):
    """What mteb asks of every model before it is submitted: `mteb mock-run` in Python."""
    results = mteb.mock_run(encoder)
    failed = {
        name: status.exception
        for name, status in results.items()
        if status is not None and not hasattr(status, "scores")
    }
    assert failed == {}
    assert sum(status is not None for _, status in results.items()) > 20


def test_candidates_of_reranking_are_ranked_alone(encoder: T1Encoder):
    full = search(encoder, top_k=10)
    for candidates in (["owl", "bee"], ["owl", "bee", "cat", "dog", "a fish"]):
        run = search(encoder, top_k=10, top_ranked=dict.fromkeys(QUERIES, candidates))
        for query_id, scores in run.items():
            expected = {name: full[query_id][name] for name in full[query_id] if name in candidates}
            assert list(scores) == list(expected)
            assert list(scores.values()) == pytest.approx(list(expected.values()), abs=1e-6)


def test_blank_texts_are_encoded(encoder: T1Encoder):
    batches = [{"text": ["", "a cat"], "body": [" ", "a cat"], "title": ["", ""]}]
    vectors = encoder.encode(
        batches, task_metadata=PetsTask.metadata, hf_split="test", hf_subset="default"
    )
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BrightBiologyRetrieval", "biology"),
        ("BrightEarthScienceLongRetrieval", "earth_science_long"),
        ("BrightTheoremQATheoremsRetrieval", "theoremqa_theorems"),
        ("BrightTheoremQAQuestionsRetrieval", "theoremqa_questions"),
        ("BrightProSustainableLivingRetrieval", "sustainable_living"),
        ("BrightPonyLongRetrieval", "pony_long"),
        ("BrightAopsRetrieval", "aops"),
        ("NFCorpus", None),
    ],
)
def test_tasks_of_bright_have_the_instructions_of_the_preset(name: str, task: str | None):
    assert bright_task(name) == task
    preset = load_preset("t1")
    assert task is None or task in preset.instructions
    metadata = mteb.get_task(name).metadata
    instruction = query_instruction(preset, metadata, {})
    assert instruction == (preset.instruction(task) if task else metadata.prompt["query"])
    assert query_instruction(preset, metadata, {name: "Find it"}) == "Find it"
    assert query_instruction(load_preset("t1-compact"), metadata, {}) is None


def test_the_metadata_identify_the_weights_and_the_prompts(tiny_t1: T1):
    meta = model_meta(tiny_t1, "owner/tiny", license="mit", training_datasets=set())
    assert (meta.name, meta.framework, meta.embed_dim) == ("owner/tiny", ["JAX"], 32)
    assert meta.n_parameters is not None
    assert meta.n_active_parameters is not None
    assert meta.n_active_parameters < meta.n_parameters
    other = T1(tiny_t1.decoder, tiny_t1.tokenizer, load_preset("t1-compact"), tiny_t1.mesh_context)
    assert meta.revision != model_meta(other).revision
    assert model_meta(tiny_t1, revision="main").revision == "main"
