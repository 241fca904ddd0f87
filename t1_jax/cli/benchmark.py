"""`t1 evaluate --benchmark`: the tasks of a benchmark one after the other, and one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.evaluate import BenchmarkSystem, EvaluationConfig, ModelFacts
    from t1_jax.retrieval.benchmarks import Benchmark, BenchmarkData
    from t1_jax.retriever import T1, RetrieverOptions

DEFAULT_CONFIG = Path("configs/benchmark.yaml")


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
        run: run files to score instead of the model; `{task}` stands for the task.
        dtype: compute dtype.
        preset: prompt preset.
        lengths: longest query and document.
        thought_cache: keep thoughts on disk, and reuse those that are there.
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
    run: str | None
    dtype: str
    preset: str | None
    lengths: "RetrieverOptions"
    thought_cache: bool
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
    from t1_jax.evaluate import BenchmarkRun, BenchmarkTable, benchmark_config
    from t1_jax.retrieval.benchmarks import load_benchmark

    benchmark = load_benchmark(options.benchmark)
    config = benchmark_config(config, benchmark)
    tasks = benchmark.select(options.tasks)
    data = _open_data(benchmark, tasks, options)
    if options.run is None:
        system = _model_system(out, benchmark, options, config)
    else:
        system = _run_system(tasks, options.run, config)
    run = BenchmarkRun(data, system, options.output, config, tasks=tasks, log=out.log)
    run.check()
    finished = run.finished(without=tasks if options.overwrite else ())
    if finished:
        out.log(f"finished before: {', '.join(finished)}")
    if pending := [task for task in tasks if task not in finished]:
        run.evaluate(pending)
        finished = run.finished()
    scores = run.summarize(finished)
    out.render(BenchmarkTable(scores))
    out.print(f"results: {options.output.resolve()}")
    out.result(output=options.output, **scores.as_json())


def _open_data(
    benchmark: "Benchmark", tasks: Sequence[str], options: BenchmarkOptions
) -> "BenchmarkData":
    from t1_jax.evaluate import benchmark_instructions
    from t1_jax.hub import locate_benchmark
    from t1_jax.retrieval.benchmarks import BenchmarkData, read_rewriting

    instructions = benchmark_instructions(options.instructions or benchmark.instructions)
    folder = locate_benchmark(benchmark, options.benchmark, options.data)
    rewritten = options.rewritten
    return BenchmarkData(
        benchmark=benchmark,
        folder=folder,
        lenient=options.lenient,
        strip_documents=instructions is not None and instructions.strip_documents,
        rewriting=None if rewritten is None else read_rewriting(rewritten, folder, tasks),
        hint="check --data" if options.data else f"t1 pull {options.benchmark}",
    )


def _model_system(
    out: Output, benchmark: "Benchmark", options: BenchmarkOptions, config: "EvaluationConfig"
) -> "BenchmarkSystem":
    from t1_jax.cli.model import model_facts
    from t1_jax.evaluate import ModelSystem, benchmark_instructions
    from t1_jax.retriever import load_model, open_model

    opened = open_model(
        options.model, dtype=options.dtype, preset=options.preset, options=options.lengths
    )

    def facts(model: "T1") -> "ModelFacts":
        return model_facts(model, Path(options.model).name)

    return ModelSystem(
        benchmark=benchmark,
        opened=opened,
        name=options.model,
        load=lambda: load_model(out, opened, thought_cache=options.thought_cache),
        facts=facts,
        instructions=benchmark_instructions(options.instructions or benchmark.instructions),
        config=config,
        embeddings=options.embeddings or options.output / "embeddings",
        log=out.log,
        show_progress_bar=True,
    )


def _run_system(tasks: Sequence[str], path: str, config: "EvaluationConfig") -> "BenchmarkSystem":
    from t1_jax.evaluate import RunFileSystem

    return RunFileSystem(path=path, tasks=tasks, config=config)
