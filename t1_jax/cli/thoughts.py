"""`t1 thoughts template` and `t1 thoughts teacher`: thoughts for training."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli import options
from t1_jax.cli.options import config_argument
from t1_jax.cli.output import Output
from t1_jax.cli.training_records import (
    RecordsFile,
    RecordsOutput,
    TrainingCollection,
    TrainingSplit,
)
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.train.data import TrainingSet
    from t1_jax.train.thoughts import AnswerFile, TeacherConfig

KEY_VARIABLE = "T1_TEACHER_KEY"


def template_thoughts(
    output: RecordsOutput,
    collection: Annotated[
        str,
        typer.Option("--collection", "-c", help="A collection with structured fields: cwe, ruff."),
    ],
    split: TrainingSplit = "train",
    documents: Annotated[
        bool,
        typer.Option(
            "--documents", help="Also write pairs made from the corpus alone, without queries."
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write thoughts from the structured fields of a collection, without a teacher.

    Each query of the split gets several thoughts of different wording and length. The qrels of the
    test split are never read. `t1 pull` the collection first.

    Example: t1 thoughts template --collection cwe --documents --output cwe-thoughts.jsonl
    """
    from t1_jax.cli.training_records import check_records_output, thought_length, without_leaks
    from t1_jax.hub import open_collection
    from t1_jax.train.data import TrainingSet, write_records
    from t1_jax.train.thoughts import cached_source, count_pieces, document_pairs, template_records

    out = Output(as_json)
    check_records_output(output, overwrite)
    source = cached_source(collection)
    queries = template_records(collection, source, split)
    if split == "train":
        documents_by_id = open_collection(collection, split).documents_by_id
        data = TrainingSet(name=collection, records=queries, documents=documents_by_id)
        queries = without_leaks(out, collection, data).records
    pairs = document_pairs(collection, source) if documents else ()
    records = (*queries, *pairs)
    write_records(output, records)
    counts = {
        "queries": len(queries),
        "documents": len(pairs),
        "thoughts": sum(len(record.thoughts) for record in records),
        "mean_tokens": round(thought_length(records, count_pieces), 1),
    }
    out.print(
        f"{output}: {counted(counts['queries'], 'queries')} and "
        f"{counted(counts['documents'], 'pairs from documents')} with "
        f"{counted(counts['thoughts'], 'thoughts')} of about {counts['mean_tokens']} tokens"
    )
    if split != "train":
        out.warn(f"these thoughts reveal qrels of {split}: do not train on them")
    out.result(output=output, split=split, **counts)


def teacher_thoughts(
    output: RecordsOutput,
    collection: TrainingCollection,
    arguments: Annotated[
        list[str] | None, config_argument("A YAML file, and fields to override, as in n=8.")
    ] = None,
    split: TrainingSplit = "train",
    records: RecordsFile = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help=f"OpenAI-compatible endpoint, as http://HOST:PORT/v1; API key in {KEY_VARIABLE}.",
        ),
    ] = None,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            help="Model name at the endpoint; without --endpoint a model as for --model.",
        ),
    ] = "smollm2-135m-instruct",
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="File for raw answers. Default: beside the output."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Retriever that ranks the positive after each thought: bm25, a model, or none to "
            "keep all. Default: bm25 with --endpoint, otherwise the teacher.",
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Thoughts to keep per query.")] = 2,
    only_helpful: Annotated[
        bool,
        typer.Option(
            "--only-helpful", help="Drop thoughts that rank the positive lower than no thought."
        ),
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for one answer of the endpoint.")
    ] = 120.0,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Further attempts after a failed request.")
    ] = 6,
    seed: options.Seed = 0,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Sample thoughts from a teacher, and keep those that rank the positive highest.

    The teacher is a model behind an endpoint, which may see the relevant documents, or a local
    model, which sees only the query. Every answer is saved at once: after a failure the same
    command asks only for the missing ones.

    Example: t1 thoughts teacher -c cwe --endpoint http://host:8000/v1 --teacher qwen -o t.jsonl
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.cli.training_records import check_prompts, check_records_output, load_training_set
    from t1_jax.retriever import open_model
    from t1_jax.train.data import write_records
    from t1_jax.train.thoughts import AnswerFile, TeacherConfig, count_pieces, with_thoughts

    out = Output(as_json)
    config = read_config(TeacherConfig, arguments)
    check_records_output(output, overwrite)
    if split == "test" and records is None:
        raise ConfigError("no thoughts are written for the test split", hint="use --split train")
    data = load_training_set(out, collection, split, records, lenient=lenient)
    judge = judge or ("bm25" if endpoint else teacher)
    models = {} if endpoint else {teacher: open_model(teacher, dtype=dtype, preset=preset)}
    if judge not in ("bm25", "none", *models):
        models[judge] = open_model(judge, dtype=dtype, preset=preset)
    file = AnswerFile(answers or output.with_suffix(".answers.jsonl"))
    transport = {"timeout_s": timeout_s, "retries": retries}
    for opened in models.values():
        check_prompts(data, opened, max_thought_tokens=config.max_thought_tokens)
    if endpoint is None:
        texts, count = _ask_local_model(data, models[teacher].load(), config, file, seed)
    else:
        texts = ask_endpoint(data, endpoint, teacher, preset, config, file, transport)
        count = count_pieces
    records_with_thoughts, cleaning = with_thoughts(
        data.records, texts, max_tokens=config.max_thought_tokens, count_tokens=count
    )
    out.print(
        f"{counted(cleaning.thoughts, 'thoughts')} from {counted(cleaning.answers, 'answers')}; "
        f"raw answers: {file.path}"
    )
    if refused := len(data.records) * config.n - cleaning.answers:
        out.warn(f"the teacher refused {counted(refused, 'requests')}; --overwrite repeats them")
    selection = None
    if judge != "none":
        candidates = dataclasses.replace(data, records=records_with_thoughts)
        records_with_thoughts, selection = _select(
            out, candidates, models.get(judge), keep=keep, only_helpful=only_helpful
        )
    write_records(output, records_with_thoughts)
    out.print(f"{output}: {counted(len(records_with_thoughts), 'records')}")
    counts = dataclasses.asdict(cleaning)
    out.result(output=output, answers=file.path, cleaning=counts, selection=selection)


def ask_endpoint(
    data: "TrainingSet",
    url: str,
    teacher: str,
    preset: str | None,
    config: "TeacherConfig",
    file: "AnswerFile",
    transport: dict[str, Any],
) -> dict[str, list[str]]:
    """Query id -> answers of the model behind an endpoint; see `ask_teacher`."""
    from t1_jax.progress import track
    from t1_jax.text import load_preset
    from t1_jax.train.thoughts import Endpoint, ask_teacher

    endpoint = Endpoint(url=url, key=os.environ.get(KEY_VARIABLE), **transport)
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


def _ask_local_model(
    data: "TrainingSet", model: "T1", config: "TeacherConfig", file: "AnswerFile", seed: int
) -> tuple[dict[str, list[str]], "Callable[[str], int]"]:
    from t1_jax.progress import track
    from t1_jax.train.thoughts import think_locally

    total = len(data.records) * config.n
    with track("thinking", total, "thoughts", shown=True) as advance:
        texts = think_locally(
            data, model, task=data.task, config=config, file=file, seed=seed, advance=advance
        )
    return texts, lambda text: len(model.tokenizer.encode_thought(text))


def _select(
    out: Output, data: "TrainingSet", opened: "OpenedModel | None", *, keep: int, only_helpful: bool
) -> tuple[Any, dict[str, Any]]:
    from t1_jax.cli.mine import document_index
    from t1_jax.train.thoughts import choose_thoughts, judge_bm25, judge_dense

    if opened is None:
        judge = judge_bm25(data.documents)
    else:
        model = opened.load()
        index = document_index(data, model, None)
        judge = judge_dense(model, index, task=data.task, show_progress_bar=True)
    selected, report = choose_thoughts(data, judge, keep=keep, only_helpful=only_helpful)
    mrr = report.mean_reciprocal_rank
    out.print(
        f"kept {report.kept} of {counted(report.thoughts, 'thoughts')}; the best one ranks the "
        f"positive first for {report.first} of {counted(report.records, 'queries')}, helps "
        f"{report.helped}, hurts {report.hurt}; MRR {mrr['none']:.3f} without a thought, "
        f"{mrr['mean']:.3f} with any, {mrr['best']:.3f} with the best"
    )
    return selected, dataclasses.asdict(report)
