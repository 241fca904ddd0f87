"""`t1 train --data`: from a file of pairs to a trained model and what the training gained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted, duration_text

if TYPE_CHECKING:
    from t1_jax.evaluate import Evaluation, PairedDifference
    from t1_jax.retrieval import Collection
    from t1_jax.train import BaseModel, Plan, TrainConfig, TrainResult
    from t1_jax.train.data import Pairs, PreparedPairs, TrainingRecord, TrainingSet

BEFORE, AFTER = "before", "after"
"""Names of the two models in the comparison."""

METRIC = "nDCG@10"
RECIPE = "recipe.yaml"
_TEACHER_TOKENS = 48
_EVALUATED_DOCUMENTS = {"cpu": 1000}
_EVALUATED_DOCUMENTS_ELSEWHERE = 100_000
_FEW = 30
"""Fewer pairs than this teach little, and held-out scores of them are noise."""


@dataclass(frozen=True, kw_only=True)
class PairsRun:
    """What a user asks of a training on pairs.

    Attributes:
        name: of the collection.
        folder: to write.
        model: to train: a name or a folder; None takes that of `recipe`, or the default one.
        minutes: of training; the steps are chosen to fit.
        held_out: whether to hold out queries to validate and to compare on.
        groups: query id -> group; a group is held out as a whole.
        endpoint: OpenAI-compatible endpoint of a teacher that writes missing thoughts; None writes
            template thoughts.
        teacher: name of the model there.
        recipe: a training config of the user, instead of a chosen one.
        fields: `KEY=VALUE` that override fields of the config.
        plan_only: stop after printing what would be done.
        overwrite: replace an earlier run in the folder.
    """

    name: str
    folder: Path
    model: str | None
    minutes: float
    held_out: bool
    groups: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    teacher: str | None = None
    recipe: Path | None = None
    fields: Sequence[str] = ()
    plan_only: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class PairsResult:
    """How a training on pairs ended.

    Attributes:
        prepared: the data.
        config: of the training.
        trained: the result of the training; None if it was only planned.
        weights: folder of the weights to use; None without a complete training.
        evaluation: the model before and after on the test queries; None without them.
    """

    prepared: "PreparedPairs"
    config: "TrainConfig"
    trained: "TrainResult | None" = None
    weights: Path | None = None
    evaluation: "Evaluation | None" = None


def train_on_pairs(out: Output, pairs: "Pairs", run: PairsRun) -> PairsResult:
    """Splits, plans, trains, and compares the model with the one before.

    Raises:
        T1Error: as `prepare_pairs`, `choose_recipe`, `t1_jax.train.train` and
            `evaluate_collection`.
    """
    from t1_jax.train import train
    from t1_jax.train.data import check_prepared, prepare_pairs, save_prepared

    prepared = prepare_pairs(
        pairs,
        run.name,
        held_out=run.held_out,
        write_thoughts=lambda data: _write_thoughts(out, run, data),
        groups=run.groups,
    )
    _print_data(out, pairs, prepared)
    is_saved = not run.overwrite and check_prepared(prepared, run.folder)
    config, plan = _config(out, run, prepared)
    if run.plan_only:
        return PairsResult(prepared=prepared, config=config)
    if not is_saved:
        save_prepared(prepared, run.folder)
    if plan is not None:
        _write_recipe(out, run.folder / RECIPE, plan)
    trained = train(config, log=out.log, show_progress=not out.as_json)
    if trained.stopped is not None:
        return PairsResult(prepared=prepared, config=config, trained=trained)
    weights = trained.folder / "stages" / config.running[-1]
    if trained.best is not None:
        weights = trained.folder / "best"
    evaluation = None
    if "test" in prepared.splits:
        evaluation = _compare(out, run, config, prepared.splits["test"], weights)
    return PairsResult(
        prepared=prepared, config=config, trained=trained, weights=weights, evaluation=evaluation
    )


def _write_thoughts(
    out: Output, run: PairsRun, data: "TrainingSet"
) -> "tuple[tuple[TrainingRecord, ...], int]":
    """The records with thoughts of the teacher, or of a template where it wrote none."""
    from t1_jax.cli.thoughts import ask_endpoint
    from t1_jax.train.thoughts import (
        AnswerFile,
        TeacherConfig,
        count_pieces,
        with_text_thoughts,
        with_thoughts,
    )

    missing = [record for record in data.records if not record.thoughts]
    taught = 0
    if run.endpoint is not None and missing and not run.plan_only:
        run.folder.mkdir(parents=True, exist_ok=True)
        config = TeacherConfig(n=1, max_thought_tokens=_TEACHER_TOKENS)
        texts = ask_endpoint(
            replace(data, records=tuple(missing)),
            run.endpoint,
            run.teacher or "",
            None,
            config,
            AnswerFile(run.folder / "answers.jsonl"),
            {},
        )
        written, report = with_thoughts(
            missing, texts, max_tokens=_TEACHER_TOKENS, count_tokens=count_pieces
        )
        by_id = {record.query_id: record for record in written}
        data = replace(
            data, records=tuple(by_id.get(record.query_id, record) for record in data.records)
        )
        taught = report.thoughts
        out.print(f"{counted(taught, 'thoughts')} written by {run.teacher}")
    records, templates = with_text_thoughts(data)
    return records, taught + templates


def _print_data(out: Output, pairs: "Pairs", prepared: "PreparedPairs") -> None:
    queries = {split: len(part.queries) for split, part in prepared.splits.items()}
    out.print(
        f"{counted(len(pairs.records), 'queries')}, {counted(len(pairs.documents), 'documents')}: "
        f"{queries['train']:,} queries to train on"
        + "".join(f", {queries[s]:,} for {s}" for s in ("validation", "test") if s in queries)
    )
    for note, count in pairs.notes.items():
        out.log(counted(count, note))
    if prepared.written_thoughts:
        record = prepared.training.records[0]
        out.print(
            f"thoughts written for {counted(prepared.written_thoughts, 'queries')}, such as: "
            f"{record.thoughts[0]}"
        )
    if len(pairs.records) < _FEW:
        out.warn(f"fewer than {_FEW} queries teach little, and scores on held-out ones are noise")


def _config(
    out: Output, run: PairsRun, prepared: "PreparedPairs"
) -> "tuple[TrainConfig, Plan | None]":
    """The config of the user, of an earlier start, or chosen for model, data and device.

    The plan is that of a chosen config, which is not written yet.
    """
    from t1_jax.config import load_config
    from t1_jax.train import TrainConfig, choose_recipe, config_of, device_of_jax, measure_speed

    if run.recipe is not None:
        fields = [*_replaced_fields(run), *run.fields]
        return load_config(TrainConfig, run.recipe, fields), None
    file = run.folder / RECIPE
    fields = [*run.fields, *(["overwrite=true"] if run.overwrite else [])]
    if file.exists() and not run.overwrite:
        out.print(f"recipe: {file}, written by an earlier start (--overwrite chooses a new one)")
        config = load_config(TrainConfig, file, fields)
        if run.model not in (None, config.model.path):
            raise ConfigError(
                f"{run.folder} was started with the model {config.model.path}, not {run.model}",
                hint="choose another folder with -o, or replace it with --overwrite",
            )
        return config, None
    model, device = _base_model(run.model or options.DEFAULT_MODEL), device_of_jax()
    plan = choose_recipe(model, prepared, run.folder, device, measure_speed(), minutes=run.minutes)
    _print_plan(out, run, plan, model, f"{device.count} x {device.platform}")
    return config_of(plan.tree, fields), plan


def _replaced_fields(run: PairsRun) -> list[str]:
    """Overrides of a user's recipe: its data, its output, and its model if one was named."""
    from t1_jax.config import load_config
    from t1_jax.train import TrainConfig
    from t1_jax.train.data import COLLECTION, RECORDS

    assert run.recipe is not None
    sources = load_config(TrainConfig, run.recipe).data.sources
    if len(sources) > 1:
        raise ConfigError(
            f"{run.recipe} has several sources of data, and --data replaces one",
            hint="name the pairs as a source of the config, and leave --data out",
        )
    (name,) = sources
    source = f"{{collection: {run.folder / COLLECTION}, records: [{run.folder / RECORDS}]}}"
    return [
        f"output={run.folder / 'train'}",
        f"data.sources.{name}={source}",
        *([] if run.model is None else [f"model.path={run.model}"]),
        *([] if run.held_out else ["validation=null", "validate_first=false"]),
        *(["overwrite=true"] if run.overwrite else []),
    ]


def _base_model(name: str) -> "BaseModel":
    """The model with the prompts it will be trained with.

    A small base model gets the short prompts, which it learns as quickly and reads faster.
    """
    from t1_jax.retriever import open_model
    from t1_jax.train import BaseModel

    preset = None
    while True:
        opened = open_model(name, preset=preset)
        model = BaseModel(
            path=name,
            shape=opened.resolved.checkpoint.config,
            tokenizer=opened.resolved.tokenizer,
            is_adapter=opened.resolved.adapter is not None,
            is_trained=not opened.provenance.is_untrained,
            preset=opened.preset,
        )
        if preset is not None or model.is_trained or model.size != "small":
            return model
        preset = "t1-compact"


def _write_recipe(out: Output, file: Path, plan: "Plan") -> None:
    import yaml

    from t1_jax.files import write_atomically

    text = yaml.safe_dump(plan.tree, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(file, f"# t1 train {file}\n{text}")
    out.print(f"recipe: {file}; edit it, then run: t1 train {quote(str(file))}")


def _print_plan(out: Output, run: PairsRun, plan: "Plan", model: "BaseModel", devices: str) -> None:
    """What will be done, and how long it takes."""
    what = {
        "s1": "learns to write thoughts (SFT)",
        "s2": "learns to embed after a thought (SFT + InfoNCE)",
        "s3": "learns which thoughts retrieve (GRPO)",
    }
    lengths = plan.tree["data"]["lengths"]
    method = "adapter, trained further" if model.is_adapter else "LoRA"
    out.print(
        f"model: {model.path}, {model.parameters / 1e6:.0f} M parameters ({method}) on {devices}"
    )
    out.print(
        f"lengths: query {lengths['query']}, thought {lengths['thought']}, document "
        f"{lengths['document']} tokens"
    )
    rows = [
        (
            f"{name} {what[name]}",
            f"{steps:,} x {plan.tree['stages'][name]['data']['batch_size']}",
            duration_text(plan.stage_seconds[name]),
        )
        for name, steps in plan.steps.items()
    ]
    rows.append(("compiling (the first time), validation", "", duration_text(plan.other_seconds)))
    out.table(("stage", "steps x queries>", "about>"), rows)
    out.print(f"training takes about {duration_text(plan.seconds)}")
    if plan.seconds > 90 * run.minutes:
        out.warn(
            f"that is longer than {run.minutes:g} minutes: the stages have their fewest steps; "
            "shorter texts or a smaller model train faster"
        )


def _compare(
    out: Output, run: PairsRun, config: "TrainConfig", test: "Collection", weights: Path
) -> "Evaluation":
    """Evaluates the model before and after on the test queries; prints and writes the results."""
    import jax

    from t1_jax.cli.model import model_facts
    from t1_jax.evaluate import EvaluationConfig, evaluate_collection, write_results
    from t1_jax.retriever import RetrieverOptions, open_model
    from t1_jax.train import ValidationConfig, validation_subset

    most = _EVALUATED_DOCUMENTS.get(jax.default_backend(), _EVALUATED_DOCUMENTS_ELSEWHERE)
    subset = validation_subset(test, ValidationConfig(queries=None, documents=most))
    if len(subset.documents) < len(test.documents):
        out.print(
            f"compared on {len(subset.documents):,} of {len(test.documents):,} documents, those "
            "of the test queries and others"
        )
    lengths = config.data.lengths
    thought = max(stage.rollout.max_thought_tokens for stage in config.stages.values())
    limits = RetrieverOptions(max_query_tokens=lengths.query, max_document_tokens=lengths.document)
    evaluations = []
    for system, path in ((BEFORE, config.model.path), (AFTER, str(weights))):
        model = open_model(
            path, preset=config.model.preset if system == BEFORE else None, options=limits
        ).load()
        evaluations.append(
            evaluate_collection(
                model,
                subset,
                EvaluationConfig(controls=("own", "no-think"), max_thought_tokens=thought),
                facts=model_facts(model, path),
                split="test",
                system=system,
                log=out.log,
                show_progress_bar=not out.as_json,
            )
        )
    joined = evaluations[0].joined_with(evaluations[1:])
    write_results(run.folder / "evaluation", [joined], overwrite=True)
    return joined


def print_result(
    out: Output, run: PairsRun, result: PairsResult, following: str | None = None
) -> None:
    """The table, what the training gained, and what to do next: `following`, or `t1 think`."""
    from t1_jax.evaluate import ResultsTable, results_as_json

    evaluation = result.evaluation
    if evaluation is not None:
        out.render(ResultsTable([evaluation]))
        if _gain(evaluation).difference <= 0:
            out.warn(
                f"the training gained nothing: keep {result.config.model.path}, or train on more "
                "pairs or for more --minutes"
            )
        out.print(f"report: {(run.folder / 'evaluation' / 'report.html').resolve()}")
    if result.weights is not None:
        out.print(f"weights: {result.weights}")
        following = following or (
            f"t1 think -m {quote(str(result.weights))} {quote(_some_query(result))}"
        )
        out.print(f"thoughts over time: {run.folder / 'train' / 'thoughts.html'}")
        out.print(f"try them: {following}")
    out.result(
        output=run.folder,
        weights=result.weights,
        steps=None if result.trained is None else result.trained.steps,
        stopped=None if result.trained is None else result.trained.stopped,
        queries={split: len(part.queries) for split, part in result.prepared.splits.items()},
        **({} if evaluation is None else results_as_json([evaluation])),
    )


def _gain(evaluation: "Evaluation") -> "PairedDifference":
    """The model after training minus the one before, each with its own thought."""
    after, before = evaluation.control("own", AFTER), evaluation.control("own", BEFORE)
    assert after is not None
    assert before is not None
    return evaluation.compare(after, before, METRIC)


def _some_query(result: PairsResult) -> str:
    part = result.prepared.splits.get("test", result.prepared.splits["train"])
    return " ".join(part.queries[0].text.split())[:80]
