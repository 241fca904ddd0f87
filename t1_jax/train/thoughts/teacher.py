"""Reference thoughts from a teacher: a model behind an endpoint, or a T1 model.

The endpoint's model may see the positives of a query (an oracle). A T1 model thinks as it does in
retrieval; `choose_thoughts` then selects its best thoughts.
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
    RequestRejectedError,
    complete_chat,
)

if TYPE_CHECKING:
    from t1_jax.retriever import T1

_CHUNK = 64
_MAX_REJECTED = 8
"""Rejected queries, before any answer, after which the settings must be wrong."""
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Requests to a teacher.

    Attributes:
        n: answers per query.
        temperature: sampling temperature; at 0 all answers may be equal.
        max_tokens: maximum tokens of an answer.
        max_thought_tokens: maximum tokens of a thought; longer answers are cut at the end of a
            sentence.
        see_documents: show the teacher the positives of the query.
        document_characters: maximum characters of a document to show.
        documents: maximum documents to show, by falling grade.
        system: system message.
        question: user message, with `{instruction}`, `{query}` and, with `see_documents`,
            `{documents}`.
        concurrency: requests in flight.

    Raises:
        ConfigError: a value is out of its range, or a placeholder is missing from `question`.
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
        for name in (
            "n",
            "max_tokens",
            "max_thought_tokens",
            "document_characters",
            "documents",
            "concurrency",
        ):
            if self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")
        check_temperature("temperature", self.temperature)
        if self.question.count("{query}") != 1:
            raise ConfigError("the teacher's question must have {query} exactly once")
        if self.see_documents and "{documents}" not in self.question:
            raise ConfigError(
                "see_documents=true needs {documents} in the teacher's question",
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
    """Requests every answer that is not in the file yet, and returns all answers.

    `teacher` is the name of the model at the endpoint, `instruction` the retrieval task in words; a
    record's own instruction replaces it. `advance` is called with the number of new answers.

    Returns:
        Query id -> answers in the order of their numbers. Rejected requests are left out, and
        repeated by the next call.

    Raises:
        EndpointError: a request failed finally, or all were rejected. Answers to requests in flight
            are stored first, as for any other interruption.
    """
    bodies = {
        record.query_id: _body(record, data.documents, teacher, instruction, config)
        for record in data.records
    }
    request_hashes = {query_id: _hash(body) for query_id, body in bodies.items()}
    missing = [
        (record.query_id, sample)
        for record in data.records
        for sample in range(config.n)
        if not file.has(record.query_id, sample, request_hashes[record.query_id])
    ]

    def ask(query_id: str, sample: int) -> Answer:
        # The seed makes answers differ and, if the endpoint uses it, reproducible.
        text = complete_chat(endpoint, {**bodies[query_id], "seed": sample})
        return Answer(query_id=query_id, sample=sample, asked=request_hashes[query_id], text=text)

    has_answers = len(missing) < len(data.records) * config.n
    _request_all(ask, missing, config.concurrency, file, advance, has_answers=has_answers)
    return _texts(request_hashes, config.n, file)


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
    """Samples thoughts of a T1 model for every query without answers in the file.

    Of the config only `n`, `temperature` and `max_thought_tokens` apply. `task` names one of the
    preset's instructions; a record's own replaces it. Returns as `ask_teacher`.
    """
    sampling = SamplingParams(temperature=config.temperature, seed=seed)
    settings = [model.fingerprint, model.preset.hash, task, config.max_thought_tokens]
    request_hashes = {
        record.query_id: _hash([*settings, asdict(sampling), record.instruction, record.query])
        for record in data.records
    }
    missing = [
        record
        for record in data.records
        if not all(
            file.has(record.query_id, sample, request_hashes[record.query_id])
            for sample in range(config.n)
        )
    ]
    for chunk in _chunks(missing):
        _, thoughts = model.encode_query(
            [record.query for record in chunk],
            query_ids=[record.query_id for record in chunk],
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            return_thoughts=True,
            task=None if chunk[0].instruction else model.known_task(task),
            instruction=chunk[0].instruction,
            sampling=sampling,
        )
        for record, group in zip(chunk, thoughts, strict=True):
            name, asked = record.query_id, request_hashes[record.query_id]
            for each in group:
                file.add(Answer(query_id=name, sample=each.sample, asked=asked, text=each.text))
            advance(len(group))
    return _texts(request_hashes, config.n, file)


def _chunks(records: Sequence[TrainingRecord]) -> list[list[TrainingRecord]]:
    """Records of one instruction, in chunks small enough to lose on an interruption."""
    by_instruction: dict[str | None, list[TrainingRecord]] = {}
    for record in records:
        by_instruction.setdefault(record.instruction, []).append(record)
    return [
        group[start : start + _CHUNK]
        for group in by_instruction.values()
        for start in range(0, len(group), _CHUNK)
    ]


def _request_all(
    ask: Callable[[str, int], Answer],
    missing: Sequence[tuple[str, int]],
    concurrency: int,
    file: AnswerFile,
    advance: Advance,
    *,
    has_answers: bool,
) -> None:
    """Requests answers with `concurrency` threads; only this thread writes the file.

    `has_answers`: whether the endpoint has answered such requests before.
    """
    queue, running = iter(missing), dict[Future[Answer], str]()
    rejected: dict[str, RequestRejectedError] = {}
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
                    except RequestRejectedError as error:
                        rejected.setdefault(query_id, error)
                    else:
                        has_answers = True
                        advance(1)
                if not has_answers and len(rejected) >= _MAX_REJECTED:
                    failure = failure or next(iter(rejected.values()))
            except BaseException as error:
                if isinstance(failure, KeyboardInterrupt):
                    raise  # a second Ctrl-C
                failure = failure or error  # requests in flight are still stored
    if rejected and not has_answers:
        failure = failure or next(iter(rejected.values()))
    if isinstance(failure, EndpointError):
        raise EndpointError(
            f"{failure.message}; {len(file.answers)} answers are stored in {file.path}",
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
    shown_documents = ""
    if config.see_documents:
        best = sorted(record.positives, key=lambda name: (-record.positives[name], name))
        for name in best[: config.documents]:
            text = documents[name].full_text[: config.document_characters]
            shown_documents += f"\nA document that answers it:\n{text}\n"
    # Not str.format: a query may be code with braces.
    question = config.question.replace("{instruction}", record.instruction or instruction)
    parts = question.split("{query}", 1)
    question = record.query.join(part.replace("{documents}", shown_documents) for part in parts)
    return {
        "model": teacher,
        "messages": [
            {"role": "system", "content": config.system},
            {"role": "user", "content": question},
        ],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }


def _texts(
    request_hashes: Mapping[str, str], samples: int, file: AnswerFile
) -> dict[str, list[str]]:
    return {
        query_id: [
            file.answers[(query_id, sample, request_hash)].text
            for sample in range(samples)
            if file.has(query_id, sample, request_hash)
        ]
        for query_id, request_hash in request_hashes.items()
    }


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
