"""A teacher's answers as they came, in a file that only grows, and the thoughts made of them.

Every answer is written as soon as it is there, so that whatever fails later loses none of them: the
next run reads the file and asks for what is missing.
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

# A chat template may have written the opening tag, which is then not in the answer.
_HIDDEN = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
_LABEL = re.compile(r"^(?:\W*)(?:thought|reasoning|answer)\s*:\s*", re.IGNORECASE)
_MARKUP = re.compile(r"^\s*(?:#+|[-*>]|\d+[.)])\s+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a teacher said.

    Attributes:
        query_id: of the query.
        sample: its number among the answers to this query.
        asked: hash of everything that was asked, the teacher's name and settings included.
        text: the answer, word for word.
    """

    query_id: str
    sample: int
    asked: str
    text: str


class AnswerFile:
    """Answers in JSONL: read once, then added to line by line.

    Raises:
        DataError: a line that is no answer. A last line that was cut off while it was being
            written is no fault: it is taken away, and its question counts as not yet asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[tuple[str, int, str], Answer] = {}
        if path.exists():
            _mend_torn_end(path)
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                self._keep(_answer(line, f"{path}:{number}"))

    def add(self, answer: Answer) -> None:
        """Writes an answer to the end of the file.

        Raises:
            T1Error: the disk refused it.
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
        self._keep(answer)

    def has(self, query_id: str, sample: int, asked: str) -> bool:
        """Whether this very question was answered."""
        return (query_id, sample, asked) in self.answers

    def _keep(self, answer: Answer) -> None:
        self.answers[(answer.query_id, answer.sample, answer.asked)] = answer


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """What became of answers: how many there were, and how many gave a thought or why not."""

    answers: int
    thoughts: int
    empty: int
    with_emb_token: int
    repeated: int


def clean_thought(text: str, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """An answer as one paragraph of at most `max_tokens` tokens; may be empty.

    Hidden reasoning, headings, bullets, labels such as "Thought:" and quotes around all of it are
    taken away. What is too long loses its last sentences, or if need be the end of its only one.
    """
    text = one_line(_MARKUP.sub("", _HIDDEN.sub("", text)))
    text = _LABEL.sub("", text).strip().strip('"“”*').strip()
    parts = sentences(text)
    while len(parts) > 1 and count_tokens(" ".join(parts)) > max_tokens:
        parts.pop()
    kept = " ".join(parts)
    pieces = max_tokens
    while kept and pieces > 0 and count_tokens(kept) > max_tokens:
        kept = f"{shortened(kept, pieces)}."
        pieces -= 1
    return kept


def with_thoughts(
    records: Sequence[TrainingRecord],
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int,
    count_tokens: Callable[[str], int],
) -> tuple[tuple[TrainingRecord, ...], CleaningReport]:
    """The records with what a teacher said as further thoughts, those they had in front.

    Args:
        records: that get them.
        texts: query id -> answers, raw.
        max_tokens: the most tokens of a thought.
        count_tokens: of the tokenizer that will read it.
    """
    fates = Counter[str]()
    thinking = []
    for record in records:
        thoughts = list(record.thoughts)
        for text in texts.get(record.query_id, ()):
            thought = clean_thought(text, max_tokens, count_tokens)
            fate = _fate(text, thought, thoughts)
            fates[fate] += 1
            if fate == "thoughts":
                thoughts.append(thought)
        thinking.append(replace(record, thoughts=tuple(thoughts)))
    return tuple(thinking), CleaningReport(
        answers=fates.total(),
        thoughts=fates["thoughts"],
        empty=fates["empty"],
        with_emb_token=fates["with_emb_token"],
        repeated=fates["repeated"],
    )


def _fate(text: str, thought: str, others: Sequence[str]) -> str:
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


def _mend_torn_end(path: Path) -> None:
    """Cuts off what stands after the last line feed: a process ended while it wrote."""
    try:
        with path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
