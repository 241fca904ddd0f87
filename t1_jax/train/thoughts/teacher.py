"""Thoughts of a teacher: a model behind an endpoint, or one of our own.

An endpoint's teacher may see the documents that answer a query, so that it writes what a reader
would have to think to get there. Our own model thinks as it does when it retrieves, unaided; which
of its thoughts are worth learning is decided afterwards, see `choose_thoughts`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from t1_jax.errors import ConfigError
from t1_jax.generate import SamplingParams, check_temperature
from t1_jax.retrieval import Document
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts.answers import Answer, AnswerFile
from t1_jax.train.thoughts.endpoint import (
    Endpoint,
    EndpointError,
    QuestionRefusedError,
    complete_chat,
)

if TYPE_CHECKING:
    from t1_jax.retriever import T1

_QUERIES_AT_ONCE = 64
_MOST_REFUSED = 8
"""Queries refused before any question is answered: then it is the setting that is wrong."""
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """What a teacher is asked, and how.

    Attributes:
        n: answers for each query.
        temperature: of the teacher's sampling; at 0 all samples may be the same.
        max_tokens: the most tokens of an answer.
        max_thought_tokens: the most tokens of a thought that is made of an answer; what is longer
            is cut at the end of a sentence.
        see_documents: the teacher is shown what answers the query.
        document_characters: how much of each document it is shown.
        documents: how many of them, those of the best grade first.
        system: what it is told first.
        question: what it is asked, with `{instruction}`, `{query}` and, if it may see them,
            `{documents}`.
        concurrency: questions under way at once.

    Raises:
        ConfigError: a value out of its range, or a question without what it must hold.
    """

    n: int = 4
    temperature: float = 0.8
    max_tokens: int = 512
    max_thought_tokens: int = 128
    see_documents: bool = True
    document_characters: int = 1500
    documents: int = 2
    system: str = (
        "You write the thought of a retrieval system. In one short paragraph of plain words, say "
        "what a document must contain to answer the query: what is really going on, its proper "
        "name, the kind it belongs to. Start with the most telling words. Do not repeat the query, "
        "do not mention documents or these instructions, and write nothing but the thought."
    )
    question: str = "Task: {instruction}\n\nQuery:\n{query}\n{documents}\nThought:"
    concurrency: int = 8

    def __post_init__(self) -> None:
        for name, value in (
            ("n", self.n),
            ("max_tokens", self.max_tokens),
            ("max_thought_tokens", self.max_thought_tokens),
            ("document_characters", self.document_characters),
            ("documents", self.documents),
            ("concurrency", self.concurrency),
        ):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        check_temperature("temperature", self.temperature)
        if self.question.count("{query}") != 1:
            raise ConfigError("the teacher's question must have {query} exactly once")
        if self.see_documents and "{documents}" not in self.question:
            raise ConfigError(
                "the teacher is to see documents, but its question has no {documents}",
                hint="add {documents} to the question, or set see_documents=false",
            )


def ask_teacher(
    data: TrainingSet,
    *,
    endpoint: Endpoint,
    teacher: str,
    instruction: str,
    config: TeacherConfig,
    file: AnswerFile,
    advance: Advance = lambda answers: None,
) -> dict[str, list[str]]:
    """Asks for every answer that the file does not have yet, and returns all of them.

    Args:
        data: what is asked about; a record's own instruction goes before `instruction`.
        endpoint: who is asked.
        teacher: name of the model there.
        instruction: what the retriever is for.
        config: what is asked.
        file: where answers are kept, each as soon as it is there.
        advance: told of answers as they come.

    Returns:
        Query id -> answers in the order of their numbers. One is missing where the endpoint, which
        answered others, refused the question; the next call asks it again.

    Raises:
        EndpointError: a question failed for good, or all were refused, in this call and before. No
            further one is asked; the answers to those under way are kept too, as they are whatever
            else interrupts.
    """
    bodies = {
        record.query_id: _body(record, data.documents, teacher, instruction, config)
        for record in data.records
    }
    asked = {query_id: _hash(body) for query_id, body in bodies.items()}
    wanted = [
        (record.query_id, sample)
        for record in data.records
        for sample in range(config.n)
        if not file.has(record.query_id, sample, asked[record.query_id])
    ]

    def ask(query_id: str, sample: int) -> Answer:
        # The seed makes answers differ and, where an endpoint heeds it, come out the same again.
        text = complete_chat(endpoint, {**bodies[query_id], "seed": sample})
        return Answer(query_id=query_id, sample=sample, asked=asked[query_id], text=text)

    answered = len(wanted) < len(data.records) * config.n
    _work_off(ask, wanted, config.concurrency, file, advance, answered=answered)
    return _texts(asked, config.n, file)


def think_locally(
    data: TrainingSet,
    model: "T1",
    *,
    task: str | None,
    config: TeacherConfig,
    file: AnswerFile,
    seed: int = 0,
    advance: Advance = lambda answers: None,
) -> dict[str, list[str]]:
    """Lets a model of ours think, unaided, about every query that the file has no thoughts of.

    Thoughts are written query by query; see `ask_teacher` for what is returned.

    Args:
        data: whose queries are thought about.
        model: the teacher.
        task: name of an instruction in its preset; a record's own instruction goes before it.
        config: `n`, `temperature` and `max_thought_tokens` apply.
        file: where thoughts are kept.
        seed: of the thoughts.
        advance: told of thoughts as they come.
    """
    sampling = SamplingParams(temperature=config.temperature, seed=seed)
    resolved = [model.fingerprint, model.preset.hash, task, config.max_thought_tokens]
    asked = {
        record.query_id: _hash([*resolved, asdict(sampling), record.instruction, record.query])
        for record in data.records
    }
    waiting = [
        record
        for record in data.records
        if not all(
            file.has(record.query_id, sample, asked[record.query_id]) for sample in range(config.n)
        )
    ]
    for group in _groups(waiting):
        _, thoughts = model.encode_query(
            [record.query for record in group],
            query_ids=[record.query_id for record in group],
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            return_thoughts=True,
            task=None if group[0].instruction else task,
            instruction=group[0].instruction,
            sampling=sampling,
        )
        for record, drawn in zip(group, thoughts, strict=True):
            for thought in drawn:
                name = record.query_id
                file.add(
                    Answer(
                        query_id=name, sample=thought.sample, asked=asked[name], text=thought.text
                    )
                )
            advance(len(drawn))
    return _texts(asked, config.n, file)


def _groups(records: Sequence[TrainingRecord]) -> list[list[TrainingRecord]]:
    """Records that share an instruction, in groups small enough to lose when interrupted."""
    by_instruction: dict[str | None, list[TrainingRecord]] = {}
    for record in records:
        by_instruction.setdefault(record.instruction, []).append(record)
    return [
        group[start : start + _QUERIES_AT_ONCE]
        for group in by_instruction.values()
        for start in range(0, len(group), _QUERIES_AT_ONCE)
    ]


def _work_off(
    ask: Callable[[str, int], Answer],
    wanted: Sequence[tuple[str, int]],
    concurrency: int,
    file: AnswerFile,
    advance: Advance,
    *,
    answered: bool,
) -> None:
    """Asks with a few questions under way; only this thread writes.

    `answered` says whether the endpoint has answered such questions before.
    """
    queue, running = iter(wanted), dict[Future[Answer], str]()
    refused: dict[str, QuestionRefusedError] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(concurrency) as pool:
        while True:
            try:
                while failure is None and len(running) < concurrency:
                    if (item := next(queue, None)) is None:
                        break
                    running[pool.submit(ask, *item)] = item[0]
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    query_id = running.pop(future)
                    try:
                        file.add(future.result())
                    except QuestionRefusedError as error:
                        refused.setdefault(query_id, error)
                    else:
                        answered = True
                        advance(1)
                if not answered and len(refused) >= _MOST_REFUSED:
                    failure = failure or next(iter(refused.values()))
            except BaseException as error:
                if isinstance(failure, KeyboardInterrupt):
                    raise  # a second Ctrl-C
                failure = failure or error  # what is under way is still waited for, and kept
    if refused and not answered:
        failure = failure or next(iter(refused.values()))
    if isinstance(failure, EndpointError):
        raise EndpointError(
            f"{failure.message}; {len(file.answers)} answers are kept in {file.path}",
            hint=failure.hint,
        ) from failure
    if failure is not None:
        raise failure


def _body(
    record: TrainingRecord,
    documents: Mapping[str, Document],
    teacher: str,
    instruction: str,
    config: TeacherConfig,
) -> dict[str, Any]:
    shown = ""
    if config.see_documents:
        best = sorted(record.positives, key=lambda name: (-record.positives[name], name))
        texts = [documents[name].full_text for name in best[: config.documents]]
        shown = "".join(
            f"\nA document that answers it:\n{text[: config.document_characters]}\n"
            for text in texts
        )
    # Replaced one by one: braces in a query, which may be code, are no fields.
    question = config.question.replace("{instruction}", record.instruction or instruction)
    head, _, tail = question.partition("{query}")
    question = (
        head.replace("{documents}", shown) + record.query + tail.replace("{documents}", shown)
    )
    return {
        "model": teacher,
        "messages": [
            {"role": "system", "content": config.system},
            {"role": "user", "content": question},
        ],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }


def _texts(asked: Mapping[str, str], samples: int, file: AnswerFile) -> dict[str, list[str]]:
    return {
        query_id: [
            file.answers[(query_id, sample, what)].text
            for sample in range(samples)
            if file.has(query_id, sample, what)
        ]
        for query_id, what in asked.items()
    }


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
