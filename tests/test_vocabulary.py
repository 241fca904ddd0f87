"""No tracked text uses a word for which the field has another term; a failure names that term.

Sources of the terms: Hugging Face transformers and PEFT, TRL, vLLM, Flax and Optax, BEIR and
trec_eval. Spelling is American.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
BINARY = {".png", ".gz", ".npy", ".safetensors", ".gguf", ".zip", ".parquet"}

# Identifiers, keys, flags and file names: whole words, case-sensitive.
IDENTIFIERS = {
    # Public names: errors, YAML keys, flags, metrics, JSON.
    "mend": "hint",
    "rank_by_words": "rank_bm25",
    "rank_by_vectors": "rank_dense",
    "batch_queries": "batch_size",
    "one_set": "homogeneous_batches",
    "corpus_share": "corpus_pair_fraction",
    "own_thoughts": "sample_thoughts, or rollout",
    "OwnThoughts": "RolloutBatches",
    "given_vectors": "contrast_reference_thoughts",
    "n_thoughts": "num_generations, or n",
    "share_prompt": "shared_prefix",
    "gather_to_think": "replicate_for_sampling",
    "emb_start": "emb_token_init",
    "near_copies": "near_duplicate_threshold",
    "forced_share": "truncated_frac",
    "kept_groups": "nonzero_std_frac",
    "leave_one_out": "rloo",
    # Training.
    "Student": "TrainableModel",
    "Learner": "ModelParts",
    "Settled": "ResolvedModel",
    "draw_batches": "batch_iterator",
    "Drawn": "PrefetchedRollout",
    "drawn_branches": "sampled_continuations",
    "Standing": "RetrievalOutcome",
    "read_at": "logit_positions",
    "emb_at": "emb_positions",
    "rehearse": "dry_run_rewards",
    "GivenUp": "Interrupted",
    "TrainingBroken": "TrainingAborted",
    "take_up": "commit",
    "rewind": "truncate_logs",
    "owes_validation": "validation_pending",
    "beats_best": "update_best",
    "Account": "TrainingSummary",
    "Portion": "StreamShare",
    "Lane": "DedupStream",
    "merge_repeats": "merge_duplicates",
    "likeness": "similarity",
    # Model and generation.
    "Placement": "MeshContext",
    "row_multiple": "batch_divisor",
    "RowDelta": "TokenEmbeddingDelta",
    "TokenMask": "VocabMask",
    "EndReason": "FinishReason",
    "SamplingOptions": "SamplingParams",
    "_Flight": "_ActivePrompt",
    "Programs": "CompiledModel",
    "Arrivals": "PromptBatch",
    # Weights, prompts, retrieval.
    "VectorTable": "EmbeddingTable",
    "left_out": "excluded",
    "tie_places": "tie_break_order",
    "give_emb_token": "add_emb_token",
    "to_ours": "from_hf",
    "our_shape": "param_shape",
    "DocumentSide": "DocumentPrompt",
    "fault_of_id": "id_error",
    "fault_of_text": "text_error",
    "Flaws": "ValidationReport",
    "text_keys": "dedup",
    "ForeignIndexError": "IndexMismatchError",
    # Files.
    r"settling\.py": "resolve.py",
    r"own_thoughts\.py": "rollout.py",
    r"flaws\.py": "validation.py",
    r"texts\.py": "shingles.py, or inputs.py",
    r"passes\.py": "objective.py",
    r"curriculum\.py": "trainer.py",
    r"countdown\.py": "eta.py",
}

# Words and phrases of docstrings, comments, messages and pages: any case.
PROSE = {
    r"(?:token|optim|normal|initial|quant|organ|recogn|summar|regular|serial|parallel|capital|general"
    r"|minim|maxim|util|special|central|stabil|memor|custom|visual|penal|synchron|real)"
    r"is(?:e|ed|er|ers|es|ing|ation)": "the American spelling: -ize, -ized, -izer, -ization",
    r"(?:un)?labelled": "labeled",
    r"behaviours?": "behavior",
    r"honou?r(?:s|ed|ing)?": "support",
    r"(?:colour|favour|neighbour)(?:s|ed|ing)?": "the American spelling: -or",
    r"centred?s?": "center",
    r"catalogues?": "catalog",
    r"judgements?": "qrels, or relevance labels",
    r"licences?": "license",
    r"learnt": "learned",
    "nobody|anybody's": "a sentence without a person: unlabeled, unused, not trained",
    r"(?<!there )is no (?:[a-z]+ )?(?:such )?(?:model|index|preset|result|file|folder|token|config"
    r"|reward|number|type|key|text|answer|list)": "is not a ...",
    "floors? of the house|rooms? (?:of|in|from|below|around)|the house": "package, layer",
    r"\Wfloor \d": "layer",
    "nothing else is asked": "no other setup is needed",
    "put into (?:its|their) mouth": "user-supplied",
    "the disk refuse[sd]?": "the write failed",
    "nor is anything": "a main clause with its subject first",
    "own thoughts": "sampled thoughts, rollouts",
    "stands? for itself|stand where": "a plain verb: is, replaces, has",
    "begins? anew|built? anew|anew": "again, from scratch",
    "to mend|mended|mending": "to fix",
    "bought with|straw man|let be": "plain words",
}

# Where a word is right: (path, word as it is written).
ALLOWED = {
    ("t1_jax/hub/metadata.py", "tokeniser"),  # a key of adapter format 1, which its error converts
    ("tests/cli/test_collection.py", "nobody"),  # queries of toy collections
    ("tests/cli/conftest.py", "the house"),
    ("tests/cli/test_collection.py", "the house"),
    ("tests/cli/test_search.py", "the house"),
    ("tests/retrieval/conftest.py", "the house"),
    ("tests/retrieval/test_collection.py", "the house"),
    ("tests/train/thoughts/test_template.py", "nobody"),
    ("tests/train/thoughts/test_template_cwe.py", "nobody"),
}


def test_words_are_those_of_the_field() -> None:
    tables = [
        (re.compile(_any_of(IDENTIFIERS)), IDENTIFIERS),
        (re.compile(_any_of(PROSE), re.IGNORECASE), PROSE),
    ]
    problems = [
        f"{path}:{number}: {match[0].strip()!r} -> {_standard(match[0], table)}"
        for path in _tracked_texts()
        for number, line in enumerate([path, *_lines(path)])
        for pattern, table in tables
        for match in pattern.finditer(line)
        if (path, match[0].strip()) not in ALLOWED
    ]
    assert not problems, f"{len(problems)} words to replace:\n" + "\n".join(problems)


def test_every_entry_matches_as_a_whole_word() -> None:
    assert re.search(_any_of(IDENTIFIERS), "a.mend = 1")
    assert not re.search(_any_of(IDENTIFIERS), "recommended amendment own_thoughts_")
    assert re.search(_any_of(PROSE), "a file that is no preset")
    assert not re.search(_any_of(PROSE), "there is no file; precise, exercise, revise")


def test_every_allowance_is_needed() -> None:
    unused = [
        (path, word)
        for path, word in ALLOWED
        if word not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert unused == []


def _lines(path: str) -> list[str]:
    return (ROOT / path).read_text(encoding="utf-8").splitlines()


def _any_of(words: dict[str, str]) -> str:
    return rf"(?<![A-Za-z0-9_])(?:{'|'.join(words)})(?![A-Za-z0-9_])"


def _standard(word: str, table: dict[str, str]) -> str:
    flags = re.IGNORECASE if table is PROSE else 0
    return next(
        term for banned, term in table.items() if re.search(_any_of({banned: ""}), word, flags)
    )


def _tracked_texts() -> list[str]:
    """Paths of all tracked text files but this one and the recorded results of the experiment."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [
        path
        for path in listed.stdout.splitlines()
        if Path(path).suffix not in BINARY
        and not path.startswith(("docs/experiment/results/", "constraints/"))
        and path != "tests/test_vocabulary.py"
        and (ROOT / path).is_file()
    ]
