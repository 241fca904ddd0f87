"""`t1 evaluate --benchmark`: tasks one after the other, each written when it is finished."""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.progress import counted, duration_text

if TYPE_CHECKING:
    from t1_jax.evaluate import BenchmarkScores, Evaluation, EvaluationConfig, TaskScores
    from t1_jax.retrieval import Collection
    from t1_jax.retrieval.benchmarks import Benchmark
    from t1_jax.retriever import T1, OpenedModel, RetrieverOptions
    from t1_jax.text import InstructionSet

DEFAULT_CONFIG = Path("configs/benchmark.yaml")
MODEL_INSTRUCTIONS = "t1"
"""Name of the instructions in the model's own prompts, as an instruction set."""

_DEPTH = 1000
"""BRIGHT and mteb score rankings of this length."""

_MARKER = "benchmark.json"


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What the user gives to `t1 evaluate --benchmark`.

    Attributes:
        benchmark: name or YAML file.
        tasks: names of tasks; empty for all.
        data: folder with the data; None for that of `t1 pull`.
        rewritten: rewritten queries: a folder of the data, or a JSON file.
        instructions: instruction set: a name or a YAML file.
        embeddings: folder that keeps document embeddings; by default in the output.
        model: the model.
        dtype: compute dtype.
        preset: prompt preset.
        lengths: longest query and document.
        output: folder to write.
        lenient: accept flaws of the data.
        overwrite: evaluate finished tasks again.
    """

    benchmark: str
    tasks: Sequence[str]
    data: Path | None
    rewritten: str | None
    instructions: str | None
    embeddings: Path | None
    model: str
    dtype: str
    preset: str | None
    lengths: "RetrieverOptions"
    output: Path
    lenient: bool
    overwrite: bool


def evaluate_benchmark(out: Output, options: BenchmarkOptions, config: "EvaluationConfig") -> None:
    """Evaluates the tasks that are not finished, and prints one table over all of them.

    Raises:
        T1Error: a finished task has other settings, or the output is another folder.
        ConfigError: an unknown name, or settings that exclude each other.
        DataError: data are missing or malformed.
    """
    from t1_jax.evaluate import BenchmarkTable

    run = _Run(out, options, config)
    run.check()
    finished = run.finished(without=run.tasks if options.overwrite else ())
    if finished:
        out.log(f"finished before: {', '.join(finished)}")
    if pending := [task for task in run.tasks if task not in finished]:
        run.evaluate(pending)
        finished = run.finished()
    scores = run.summarize(finished)
    out.render(BenchmarkTable(scores))
    out.print(f"results: {options.output.resolve()}")
    out.result(output=options.output, **scores.as_json())


class _Run:
    """One call of the command: everything is checked before the model is loaded."""

    def __init__(self, out: Output, options: BenchmarkOptions, config: "EvaluationConfig") -> None:
        from t1_jax.hub import locate_benchmark
        from t1_jax.retrieval.benchmarks import BenchmarkData, load_benchmark, read_rewriting

        self.out, self.options = out, options
        self._hashes: dict[str, dict[str, str]] = {}
        self.benchmark = load_benchmark(options.benchmark)
        self.config = _checked_config(config, self.benchmark)
        self.tasks = self.benchmark.select(options.tasks)
        self.instructions = _instructions(options.instructions or self.benchmark.instructions)
        folder = locate_benchmark(self.benchmark, options.benchmark, options.data)
        rewriting = (
            None
            if options.rewritten is None
            else read_rewriting(options.rewritten, folder, self.tasks)
        )
        self.data = BenchmarkData(
            benchmark=self.benchmark,
            folder=folder,
            lenient=options.lenient,
            strip_documents=self.instructions is not None and self.instructions.strip_documents,
            rewriting=rewriting,
            hint="check --data" if options.data else f"t1 pull {options.benchmark}",
        )

    @cached_property
    def opened(self) -> "OpenedModel":
        from t1_jax.retriever import open_model

        options = self.options
        return open_model(
            options.model, dtype=options.dtype, preset=options.preset, options=options.lengths
        )

    def check(self) -> None:
        """Checks the output, the data, and that the model can embed all queries."""
        from t1_jax.retrieval import require_backend

        _check_output(self.options.output, self.benchmark)
        require_backend(self.config.index)
        revisions = self.data.revisions
        for task in self.tasks:
            self.data.files(task)
            texts = [query.text for query in self.data.queries(task)]
            self._check_queries(task, texts)
        if not revisions:
            self.out.log(f"{self.data.folder}: the revision is unknown; hashes are recorded")
        self.opened.check_document_prompt()

    def _check_queries(self, task: str, texts: Sequence[str]) -> None:
        config = self._config_of(task)
        self.opened.check_queries(
            texts,
            instruction=self._instruction(task),
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            sampling=config.sampling,
        )

    def finished(self, *, without: Sequence[str] = ()) -> "dict[str, TaskScores]":
        """All finished tasks in the output; their settings must be those of this call."""
        from t1_jax.evaluate import check_settings, read_task

        found = {}
        for task in self.benchmark.tasks:
            folder = self._folder(task)
            if task in without or not folder.exists():
                continue
            scores = read_task(folder, task, self.benchmark.metric)
            settings = self._settings(task)
            if task not in self.tasks:  # its data were not asked for, and need not be here
                settings |= {key: scores.settings.get(key) for key in ("files", "queries")}
            check_settings(folder, scores, settings)
            found[task] = scores
        return found

    def evaluate(self, tasks: Sequence[str]) -> None:
        """Evaluates tasks and writes each; documents that tasks share are read once."""
        from t1_jax.cli.model import load_model

        self._mark()
        model = load_model(self.out, self.opened)
        documents, corpus = None, None
        for task in tasks:
            if (wanted := self.benchmark.corpus_of(task)) != corpus:
                documents = None  # the memory of the last corpus
                documents, corpus = self.data.documents(task), wanted
            self._evaluate_task(model, task, self.data.collection(task, documents))

    def _evaluate_task(self, model: "T1", task: str, collection: "Collection") -> None:
        from t1_jax.cli.model import instruction_note, model_facts
        from t1_jax.evaluate import (
            encode_in_folder,
            evaluate_collection,
            main_row,
            scorable_queries,
            write_task,
        )
        from t1_jax.retriever import encoding_record

        config, start = self._config_of(task), time.perf_counter()
        instruction = self._instruction(task)
        for flaw, count in collection.notes.items():
            self.out.log(f"{collection.name}: {counted(count, flaw)}")
        self.out.log(f"{collection.name}: {instruction_note(self.opened.preset, instruction)}")
        everything = dataclasses.replace(config, max_queries=0)
        scorable = len(scorable_queries(collection, everything).queries)
        evaluation = evaluate_collection(
            model,
            collection,
            config,
            facts=model_facts(model, Path(self.options.model).name),
            encode_documents=partial(
                encode_in_folder,
                model,
                folder=self.options.embeddings or self.options.output / "embeddings",
                name=f"{self.benchmark.name}-{self.benchmark.corpus_of(task)}",
                encoding=encoding_record(self.opened, self.options.model, instruction),
                show_progress_bar=True,
                log=self.out.log,
            ),
            log=self.out.log,
            show_progress_bar=True,
        )
        write_task(
            self._folder(task),
            evaluation,
            self.benchmark,
            task,
            settings=self._settings(task),
            scorable=scorable,
            notes=self._truncation_notes(task, evaluation),
            model_meta=_model_meta(model, self.options.model),
        )
        metric = self.benchmark.metric
        row = main_row(evaluation)
        mean = evaluation.intervals[row.name][metric].mean
        taken = duration_text(time.perf_counter() - start)
        self.out.log(f"{task}: {metric} {mean:.3f} ({row.label}, {taken})")

    def _truncation_notes(self, task: str, evaluation: "Evaluation") -> list[str]:
        from t1_jax.text import tokenize_queries

        preset = self.opened.preset
        instruction = self._instruction(task)
        prompts = tokenize_queries(
            self.opened.resolved.tokenizer,
            preset.with_instruction(instruction),
            [query.text for query in evaluation.collection.queries],
            max_tokens=self.opened.options.max_query_tokens,
        )
        (system,) = evaluation.systems
        documents = len(evaluation.collection.documents)
        return [
            f"{evaluation.title}: {truncated:,} of {counted(total, what)} truncated."
            for truncated, total, what in (
                (sum(prompt.truncated for prompt in prompts), len(prompts), "queries"),
                (system.truncated_documents, documents, "documents"),
            )
            if truncated
        ]

    def summarize(self, finished: "Mapping[str, TaskScores]") -> "BenchmarkScores":
        """Writes the table and the results over all tasks, and the result files of mteb."""
        from t1_jax.evaluate import (
            BenchmarkScores,
            benchmark_as_markdown,
            benchmark_results_as_json,
        )
        from t1_jax.files import write_atomically

        scores = BenchmarkScores(
            benchmark=self.benchmark,
            tasks=list(finished.values()),
            settings=self._title_settings(),
            bootstrap_samples=self.config.bootstrap_samples,
            bootstrap_seed=self.config.bootstrap_seed,
        )
        output = self.options.output
        results = benchmark_results_as_json(scores)
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(output / "results.json", text + "\n")
        write_atomically(output / "table.md", benchmark_as_markdown(scores))
        for task in finished:
            self._copy_for_mteb(self._folder(task), self.benchmark.tasks[task].mteb)
        return scores

    def _copy_for_mteb(self, folder: Path, name: str | None) -> None:
        """Copies the result of a task to the layout of mteb's repository of results."""
        if name is None or not (meta := folder / "model_meta.json").is_file():
            return
        fields = json.loads(meta.read_bytes())
        target = (
            self.options.output / "mteb" / fields["name"].replace("/", "__") / fields["revision"]
        )
        target.mkdir(parents=True, exist_ok=True)
        for path in (meta, folder / f"{name}.json"):
            shutil.copyfile(path, target / path.name)

    def _folder(self, task: str) -> Path:
        return self.options.output / f"{self.benchmark.name}-{task}"

    def _mark(self) -> None:
        from t1_jax.files import write_atomically

        content = {"name": self.benchmark.name, "hash": self.benchmark.hash}
        write_atomically(self.options.output / _MARKER, json.dumps(content, indent=2) + "\n")

    def _instruction(self, task: str) -> str:
        """The instruction in the prompts of a task's queries.

        Raises:
            ConfigError: prompts without an instruction, and an instruction set.
        """
        name, preset = self.benchmark.instruction_of(task), self.opened.preset
        if self.instructions is None:
            return preset.instruction(preset.known_task(name))
        if not preset.uses_instruction:
            raise ConfigError(
                f"the prompts {preset.name!r} have no instruction, so the instructions "
                f"{self.instructions.name!r} would do nothing",
                hint=f"add --instructions {MODEL_INSTRUCTIONS}, or choose other prompts",
            )
        return self.instructions.in_prompt(name)

    def _config_of(self, task: str) -> "EvaluationConfig":
        if self.instructions is None:
            return self.config
        return dataclasses.replace(self.config, instruction=self._instruction(task))

    def _title_settings(self) -> dict[str, str]:
        preset, revisions = self.opened.preset, self.data.revisions
        data = ", ".join(f"{name}@{commit[:7]}" for name, commit in revisions.items())
        named = self.instructions.name if self.instructions else MODEL_INSTRUCTIONS
        return {
            "model": Path(self.options.model).name,
            "data": data or "local files of unknown revision",
            "queries": self.data.queries_name,
            "prompts": f"{preset.name}, version {preset.version}",
            "instructions": named if preset.uses_instruction else "none",
        }

    def _settings(self, task: str) -> dict[str, Any]:
        """What a finished task must have in common with this call."""
        from t1_jax.hub import tokenizer_hash
        from t1_jax.retriever import digest

        opened, rewriting = self.opened, self.data.rewriting
        chosen = self.instructions
        return {
            "benchmark": self.benchmark.name,
            "task": dataclasses.asdict(self.benchmark.tasks[task]) | {"name": task},
            "queries": {
                "name": self.data.queries_name,
                "hash": None if rewriting is None else digest(rewriting.texts.get(task)),
            },
            "instructions": {
                "name": MODEL_INSTRUCTIONS if chosen is None else chosen.name,
                "hash": opened.preset.hash if chosen is None else chosen.hash,
                "text": self._instruction(task),
            },
            "strip_documents": self.data.strip_documents,
            "lenient": self.options.lenient,
            "model": {
                "encoder": opened.fingerprint,
                "prompts": opened.preset.hash,
                "tokenizer": tokenizer_hash(opened.provenance.tokenizer),
                "dtype": opened.dtype,
                "max_query_tokens": opened.options.max_query_tokens,
                "max_document_tokens": opened.options.max_document_tokens,
            },
            "config": dataclasses.asdict(self._config_of(task)),
            "files": self._file_hashes(task),
        }

    def _file_hashes(self, task: str) -> dict[str, str]:
        if task not in self.tasks:
            return {}
        if task not in self._hashes:
            self._hashes[task] = self.data.file_hashes(task)
        return self._hashes[task]


def _checked_config(config: "EvaluationConfig", benchmark: "Benchmark") -> "EvaluationConfig":
    if config.task is not None or config.instruction is not None:
        raise ConfigError(
            "a benchmark chooses the instruction of each task",
            hint="leave out task and instruction; --instructions names a set of them",
        )
    if config.top_k < _DEPTH:
        raise ConfigError(
            f"top_k is {config.top_k}, and the files of a benchmark have rankings of {_DEPTH} "
            "documents",
            hint=f"set top_k={_DEPTH}",
        )
    if benchmark.metric in config.metrics:
        return config
    return dataclasses.replace(config, metrics=(*config.metrics, benchmark.metric))


def _instructions(name: str) -> "InstructionSet | None":
    """The instruction set; None for the instructions of the model's own prompts."""
    from t1_jax.text import load_instructions

    return None if name == MODEL_INSTRUCTIONS else load_instructions(name)


def _check_output(output: Path, benchmark: "Benchmark") -> None:
    """Raises unless the folder is new, or that of the same benchmark."""
    from t1_jax.files import check_new_folder, read_text

    marker = output / _MARKER
    if not marker.is_file():
        check_new_folder(output, overwrite=False)
        return
    try:
        name = json.loads(read_text(marker))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker} is damaged: {error!r}", hint="choose another folder") from error
    if name != benchmark.name:
        raise T1Error(
            f"{output} has results of {name}, not of {benchmark.name}", hint="choose another folder"
        )


def _model_meta(model: "T1", name: str) -> dict[str, Any]:
    import jax
    from flax import nnx

    from t1_jax.evaluate import mteb_model_meta

    parameters = jax.tree.leaves(nnx.state(model.decoder, nnx.Param))
    is_hub_name = name.count("/") == 1 and not Path(name).exists()
    trained_on = None if model.provenance is None else model.provenance.trained_on
    return mteb_model_meta(
        name if is_hub_name else f"local/{Path(name).resolve().name}",
        revision=model.fingerprint[:40],
        parameters=sum(leaf.size for leaf in parameters),
        embed_dim=model.embed_dim,
        max_tokens=model.options.max_document_tokens,
        trained_on=None if trained_on is None else list(trained_on),
        uses_instructions=model.preset.uses_instruction,
    )
