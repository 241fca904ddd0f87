"""`t1 thoughts template` and `t1 thoughts teacher`: thoughts to learn from."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli.options import DEFAULT_MODEL, AsJson, Dtype, Lenient, Overwrite, Preset, Seed
from t1_jax.cli.output import Output
from t1_jax.cli.training_records import (
    RecordsFile,
    RecordsOutput,
    TrainingCollection,
    TrainingSplit,
)
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.train.data import TrainingSet
    from t1_jax.train.thoughts import AnswerFile, TeacherConfig

KEY_VARIABLE = "T1_TEACHER_KEY"


def template_thoughts(
    output: RecordsOutput,
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="One with structure to write from: cwe, ruff.")
    ],
    split: TrainingSplit = "train",
    documents: Annotated[
        bool,
        typer.Option("--documents", help="Also pairs made of the corpus itself, without queries."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write thoughts from a collection's own structure, without any teacher.

    Each query of the split gets several, in different words and lengths. Judgments of the test
    split are never read. `t1 pull` must have fetched the collection.

    Example: t1 thoughts template --collection cwe --documents --output cwe-cold.jsonl
    """
    from t1_jax.cli.training_records import learnable_set, refuse_taken_file, thought_length
    from t1_jax.hub import open_collection
    from t1_jax.train.data import TrainingSet, write_records
    from t1_jax.train.thoughts import cached_source, count_pieces, document_pairs, template_records

    out = Output(as_json)
    refuse_taken_file(output, overwrite)
    source = cached_source(collection)
    queries = template_records(collection, source, split)
    if split == "train":
        documents_by_id = open_collection(collection, split).documents_by_id
        whole = TrainingSet(name=collection, records=queries, documents=documents_by_id)
        queries = learnable_set(out, collection, whole).records
    pairs = document_pairs(collection, source) if documents else ()
    records = (*queries, *pairs)
    write_records(output, records)
    counts = {
        "queries": len(queries),
        "documents": len(pairs),
        "thoughts": sum(len(record.thoughts) for record in records),
        "mean_tokens": round(thought_length(records, count_pieces), 1),
    }
    out.say(
        f"{output}: {counts['queries']} queries and {counts['documents']} texts of documents with "
        f"{counts['thoughts']} thoughts of about {counts['mean_tokens']} tokens"
    )
    if split != "train":
        out.say(f"these thoughts tell judgments of {split}: do not train on them", style="yellow")
    out.result({"output": output, "split": split, **counts})


def teacher_thoughts(
    output: RecordsOutput,
    collection: TrainingCollection,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of the teacher, for example n=8."),
    ] = None,
    split: TrainingSplit = "train",
    records: RecordsFile = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", help=f"OpenAI-compatible, as http://HOST:PORT/v1; key in {KEY_VARIABLE}."
        ),
    ] = None,
    teacher: Annotated[
        str,
        typer.Option("--teacher", help="Model at the endpoint, or of ours if there is none."),
    ] = DEFAULT_MODEL,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with fields of the teacher.")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="Raw answers are kept here. Default: beside the output."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Who tells which thoughts find the positive: a T1 model, 'words' for BM25, or "
            "'none' to keep all. Default: words for an endpoint; a teacher of ours judges its own.",
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Thoughts that a judge keeps.")] = 2,
    only_helpful: Annotated[
        bool, typer.Option("--only-helpful", help="Drop thoughts that are worse than none.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds for one answer of the endpoint.")
    ] = 120.0,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Attempts after one that failed.")
    ] = 6,
    seed: Seed = 0,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Ask a teacher for thoughts, and keep those that bring the positive closest.

    The teacher is a model behind an endpoint, which may see what answers each query, or a model of
    ours, which thinks unaided. Every answer is kept as it comes: run the same command again after a
    failure, and only what is missing is asked.

    Example: t1 thoughts teacher -c cwe --endpoint http://host:8000/v1 --teacher qwen -o t.jsonl
    """
    from t1_jax.cli.training_records import given_training_set, refuse_taken_file
    from t1_jax.config import load_config
    from t1_jax.retriever import open_model
    from t1_jax.train.data import write_records
    from t1_jax.train.thoughts import AnswerFile, TeacherConfig, count_pieces, with_thoughts

    out = Output(as_json)
    asked = load_config(TeacherConfig, config, settings or ())
    refuse_taken_file(output, overwrite)
    if split == "test" and records is None:
        raise ConfigError("thoughts are not written for the test split", hint="--split train")
    data = given_training_set(out, collection, split, records, lenient=lenient)
    judge = judge or ("bm25" if endpoint else teacher)
    models = {} if endpoint else {teacher: open_model(teacher, dtype=dtype, preset=preset)}
    if judge not in ("bm25", "none", *models):
        models[judge] = open_model(judge, dtype=dtype, preset=preset)
    file = AnswerFile(answers or output.with_suffix(".answers.jsonl"))
    reach = {"timeout_s": timeout_s, "retries": retries}
    for opened in models.values():
        _check_model(data, opened, asked.max_thought_tokens)
    if endpoint is None:
        texts, count = _ask_ours(data, models[teacher].load(), asked, file, seed)
    else:
        texts = _ask_endpoint(data, endpoint, teacher, preset, asked, file, reach)
        count = count_pieces
    thinking, cleaning = with_thoughts(
        data.records, texts, max_tokens=asked.max_thought_tokens, count_tokens=count
    )
    out.say(f"{cleaning.thoughts} thoughts of {cleaning.answers} answers, kept in {file.path}")
    if refused := len(data.records) * asked.n - cleaning.answers:
        out.say(
            f"{refused} questions were refused; with --overwrite they are asked again",
            style="yellow",
        )
    choice = None
    if judge == "none":
        out.say("every thought is kept")
    else:
        found = dataclasses.replace(data, records=thinking)
        how = {"keep": keep, "only_helpful": only_helpful}
        thinking, choice = _choose(out, found, models.get(judge), how)
    write_records(output, thinking)
    out.say(f"{output}: {len(thinking)} records")
    fields = {"output": output, "answers": file.path, "cleaning": dataclasses.asdict(cleaning)}
    out.result({**fields, "choice": choice})


def _ask_endpoint(
    data: "TrainingSet",
    url: str,
    teacher: str,
    preset: str | None,
    config: "TeacherConfig",
    file: "AnswerFile",
    reach: dict[str, Any],
) -> dict[str, list[str]]:
    from t1_jax.progress import track
    from t1_jax.text import load_preset
    from t1_jax.train.thoughts import Endpoint, ask_teacher

    endpoint = Endpoint(url=url, key=os.environ.get(KEY_VARIABLE), **reach)
    total = len(data.records) * config.n
    with track("asking", total, "answers", shown=True) as advance:
        return ask_teacher(
            data,
            endpoint=endpoint,
            teacher=teacher,
            instruction=load_preset(preset or "t1").instruction(data.task),
            config=config,
            file=file,
            advance=advance,
        )


def _check_model(data: "TrainingSet", model: "OpenedModel", max_thought_tokens: int) -> None:
    """Refuses queries whose prompt and thought do not fit the model."""
    for instruction in dict.fromkeys(record.instruction for record in data.records):
        model.check_queries(
            [record.query for record in data.records if record.instruction == instruction],
            task=data.task,
            instruction=instruction,
            max_thought_tokens=max_thought_tokens,
        )


def _ask_ours(
    data: "TrainingSet",
    model: "T1",
    config: "TeacherConfig",
    file: "AnswerFile",
    seed: int,
) -> tuple[dict[str, list[str]], "Callable[[str], int]"]:
    from t1_jax.progress import track
    from t1_jax.train.thoughts import think_locally

    total = len(data.records) * config.n
    with track("thinking", total, "thoughts", shown=True) as advance:
        texts = think_locally(
            data, model, task=data.task, config=config, file=file, seed=seed, advance=advance
        )
    return texts, lambda text: len(model.tokenizer.encode_thought(text))


def _choose(
    out: Output,
    data: "TrainingSet",
    opened: "OpenedModel | None",
    how: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    from t1_jax.cli.mine import document_index
    from t1_jax.train.thoughts import choose_thoughts, judge_bm25, judge_dense

    if opened is None:
        judge = judge_bm25(data.documents)
    else:
        model = opened.load()
        index = document_index(data, model, None)
        judge = judge_dense(model, index, task=data.task, show_progress_bar=True)
    kept, report = choose_thoughts(data, judge, **how)
    ranks = report.mean_reciprocal_rank
    out.say(
        f"kept {report.kept} of {report.thoughts} thoughts; the best one finds the positive first "
        f"for {report.first} of {report.records} queries, helps {report.helped}, hurts "
        f"{report.hurt}; mean reciprocal rank {ranks['none']:.3f} without a thought, "
        f"{ranks['mean']:.3f} with any, {ranks['best']:.3f} with the best"
    )
    return kept, dataclasses.asdict(report)
