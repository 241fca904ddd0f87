"""Short prompts, and two small sets whose records show every case."""

from t1_jax.retrieval import Document
from t1_jax.text import PromptPreset
from t1_jax.train.data import Example, TrainingRecord, TrainingSet

PRESET = PromptPreset(
    name="short",
    version="1",
    query_template="<|im_start|>{instruction}: {text} think<|im_end|>",
    query_nothink_template="<|im_start|>{instruction}: {text}<|im_end|>",
    document_template="<|im_start|>{text}<|im_end|>",
    default_instruction="find",
    instructions={"b": "answer"},
)


def sets() -> tuple[TrainingSet, TrainingSet]:
    """Documents of equal ids in both; the second one's records lack what the first one's have."""
    texts = ("array", "pointer", "buffer", "a passage past the end", "write", "query")
    documents = {f"d{n}": Document(id=f"d{n}", title="", text=text) for n, text in enumerate(texts)}
    records = (
        TrainingRecord(
            query_id="q0",
            query="overflow",
            positives={"d0": 1, "d1": 1},
            negatives=("d2", "d3"),
            thoughts=("the end of an array",),
        ),
        TrainingRecord(
            query_id="q1",
            query="attacker",
            positives={"d2": 1},
            negatives=("d0",),
            excluded=frozenset({"d4"}),
            thoughts=("an attacker can write past the end of an array that is too short",),
            instruction="search",
        ),
    )
    other = (TrainingRecord(query_id="q0", query="passage", positives={"d4": 1}),)
    more = {"d4": documents["d4"], "d0": Document(id="d0", title="", text="retrieval")}
    return (
        TrainingSet(name="a", records=records, documents=documents),
        TrainingSet(name="b", records=other, documents=more),
    )


def examples() -> tuple[Example, ...]:
    first, second = sets()
    return (
        Example(
            set_name="a",
            task="a",
            record=first.records[0],
            positive="d0",
            negatives=("d2", "d3"),
            thought=first.records[0].thoughts[0],
        ),
        Example(
            set_name="a",
            task="a",
            record=first.records[1],
            positive="d2",
            negatives=("d0",),
            thought=first.records[1].thoughts[0],
        ),
        Example(
            set_name="b",
            task="b",
            record=second.records[0],
            positive="d4",
            negatives=(),
            thought=None,
        ),
    )
