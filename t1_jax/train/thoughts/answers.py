"""A teacher's raw answers in an append-only file, and the thoughts made of them.

Every answer is written at once, so that the next run asks only for those that are missing.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from t1_jax.errors import DataError, T1Error
from t1_jax.train.data import EMB_TOKEN, TrainingRecord
from t1_jax.train.thoughts.wording import one_line, sentences, shortened

# The chat template may contain the opening tag, so that the answer has only the closing one.
_HIDDEN = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
_LABEL = re.compile(r"^(?:\W*)(?:thought|reasoning|answer)\s*:\s*", re.IGNORECASE)
_MARKUP = re.compile(r"^\s*(?:#+|[-*>]|\d+[.)])\s+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of a teacher.

    Attributes:
        query_id: id of the query.
        sample: number of the answer, from 0.
        asked: hash of the request, with the teacher's name and settings.
        text: the raw answer.
    """

    query_id: str
    sample: int
    asked: str
    text: str


class AnswerFile:
    """Answers in JSONL: read once, then appended to.

    A last line that was truncated by a crash is removed.

    Raises:
        DataError: a line is not an answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[tuple[str, int, str], Answer] = {}
        if path.exists():
            _remove_partial_line(path)
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                self._store(_answer(line, f"{path}:{number}"))

    def add(self, answer: Answer) -> None:
        """Appends an answer.

        Raises:
            T1Error: the write failed.
        """
        line = json.dumps(asdict(answer), ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise T1Error(
                f"{self.path} could not be written: {error.strerror}",
                hint="free disk space or check permissions, then run the command again",
            ) from error
        self._store(answer)

    def has(self, query_id: str, sample: int, asked: str) -> bool:
        """Whether this request was answered."""
        return (query_id, sample, asked) in self.answers

    def _store(self, answer: Answer) -> None:
        self.answers[(answer.query_id, answer.sample, answer.asked)] = answer


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """Number of answers, of those that gave a thought, and of the others by reason."""

    answers: int
    thoughts: int
    empty: int
    with_emb_token: int
    repeated: int


def clean_thought(text: str, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """An answer as one paragraph of at most `max_tokens` tokens; may be empty.

    Removes hidden reasoning, headings, bullets, labels such as "Thought:" and enclosing quotes. An
    answer that is too long loses its last sentences, or the end of its only sentence.
    """
    text = one_line(_MARKUP.sub("", _HIDDEN.sub("", text)))
    text = _LABEL.sub("", text).strip().strip('"“”*').strip()
    parts = sentences(text)
    while len(parts) > 1 and count_tokens(" ".join(parts)) > max_tokens:
        parts.pop()
    thought = " ".join(parts)
    pieces = max_tokens
    while thought and pieces > 0 and count_tokens(thought) > max_tokens:
        thought = f"{shortened(thought, pieces)}."
        pieces -= 1
    return thought


def with_thoughts(
    records: Sequence[TrainingRecord],
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int,
    count_tokens: Callable[[str], int],
) -> tuple[tuple[TrainingRecord, ...], CleaningReport]:
    """Appends a teacher's raw answers, `texts` by query id, to the thoughts of records.

    `count_tokens` counts with the retriever's tokenizer.
    """
    outcomes = Counter[str]()
    updated = []
    for record in records:
        thoughts = list(record.thoughts)
        for text in texts.get(record.query_id, ()):
            thought = clean_thought(text, max_tokens, count_tokens)
            outcome = _outcome(text, thought, thoughts)
            outcomes[outcome] += 1
            if outcome == "thoughts":
                thoughts.append(thought)
        updated.append(replace(record, thoughts=tuple(thoughts)))
    return tuple(updated), CleaningReport(
        answers=outcomes.total(),
        thoughts=outcomes["thoughts"],
        empty=outcomes["empty"],
        with_emb_token=outcomes["with_emb_token"],
        repeated=outcomes["repeated"],
    )


def _outcome(text: str, thought: str, others: Sequence[str]) -> str:
    if EMB_TOKEN in text:
        return "with_emb_token"
    if not thought:
        return "empty"
    return "repeated" if thought in others else "thoughts"


def _answer(line: bytes, place: str) -> Answer:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: malformed JSON: {error}") from error
    kinds = {"query_id": str, "sample": int, "asked": str, "text": str}
    if not isinstance(fields, dict) or {k: type(v) for k, v in fields.items()} != kinds:
        raise DataError(
            f"{place}: an answer has {', '.join(kinds)}, found {line.decode()[:80]}",
            hint="name another file with --answers, or remove the line",
        )
    return Answer(**fields)


def _remove_partial_line(path: Path) -> None:
    """Removes a last line without a line feed, which a crash left behind."""
    try:
        with path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
