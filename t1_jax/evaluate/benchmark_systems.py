"""What a benchmark evaluates: a model, or the run files of another system."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate.benchmark_run import TaskEvaluation
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.documents import encode_in_folder
from t1_jax.evaluate.formats import mteb_model_meta
from t1_jax.evaluate.protocol import evaluate_collection
from t1_jax.evaluate.results import Evaluation, ModelFacts
from t1_jax.evaluate.run_file import evaluate_run_file
from t1_jax.files import sha256_of
from t1_jax.hub import tokenizer_hash
from t1_jax.progress import counted
from t1_jax.retrieval import Collection, Query
from t1_jax.retrieval.benchmarks import Benchmark
from t1_jax.retriever import T1, OpenedModel, encoding_record
from t1_jax.text import InstructionSet, load_instructions, tokenize_queries

MODEL_INSTRUCTIONS = "t1"
"""Name of the instructions in the model's own prompts, as an instruction set."""

_TASK = "{task}"


def benchmark_instructions(name: str) -> InstructionSet | None:
    """The instruction set; None for the instructions of the model's own prompts.

    Raises:
        ConfigError: unknown name, or the file is not an instruction set.
    """
    return None if name == MODEL_INSTRUCTIONS else load_instructions(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSystem:
    """A model, whose weights are read when the first task is evaluated.

    Attributes:
        benchmark: the benchmark.
        opened: the model without its weights.
        name: how the user calls it.
        load: reads the weights.
        facts: describes the loaded model.
        instructions: replace those of the model's prompts.
        config: settings.
        embeddings: folder that keeps document embeddings.
        log: receives one line before each step.
        show_progress_bar: show the rate and the time left of each step.
    """

    benchmark: Benchmark
    opened: OpenedModel
    name: str
    load: Callable[[], T1]
    facts: Callable[[T1], ModelFacts]
    instructions: InstructionSet | None
    config: EvaluationConfig
    embeddings: Path
    log: Callable[[str], None] = lambda line: None
    show_progress_bar: bool = False

    @cached_property
    def _model(self) -> T1:
        return self.load()

    @property
    def title(self) -> Mapping[str, str]:
        """See `BenchmarkSystem.title`."""
        preset = self.opened.preset
        named = MODEL_INSTRUCTIONS if self.instructions is None else self.instructions.name
        return {
            "model": Path(self.name).name,
            "prompts": f"{preset.name}, version {preset.version}",
            "instructions": named if preset.uses_instruction else "none",
        }

    def check(self, task: str, queries: Sequence[Query]) -> None:
        """See `BenchmarkSystem.check`; raises as `OpenedModel.check_queries`."""
        config = self.config
        self.opened.check_document_prompt()
        self.opened.check_queries(
            [query.text for query in queries],
            instruction=self._instruction(task),
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            sampling=config.sampling,
            names=[f"query {query.id!r} of {task}" for query in queries],
            candidates=config.candidates,
        )

    def settings(self, task: str) -> Mapping[str, Any]:
        """See `BenchmarkSystem.settings`."""
        opened, chosen = self.opened, self.instructions
        return {
            "instructions": {
                "name": MODEL_INSTRUCTIONS if chosen is None else chosen.name,
                "hash": opened.preset.hash if chosen is None else chosen.hash,
                "text": self._instruction(task),
            },
            "model": {
                "encoder": opened.fingerprint,
                "prompts": opened.preset.hash,
                "tokenizer": tokenizer_hash(opened.provenance.tokenizer),
                "dtype": opened.dtype,
                "max_query_tokens": opened.options.max_query_tokens,
                "max_document_tokens": opened.options.max_document_tokens,
            },
            "config": asdict(self.config),
        }

    def evaluate(self, task: str, collection: Collection) -> TaskEvaluation:
        """See `BenchmarkSystem.evaluate`; raises as `evaluate_collection`."""
        instruction, model = self._instruction(task), self._model
        self.log(f"{collection.name}: query instruction: {instruction}")
        config = self.config
        if self.instructions is not None:
            config = replace(config, instruction=instruction)
        evaluation = evaluate_collection(
            model,
            collection,
            config,
            facts=self.facts(model),
            encode_documents=partial(
                encode_in_folder,
                model,
                folder=self.embeddings,
                name=f"{self.benchmark.name}-{self.benchmark.corpus_of(task)}",
                encoding=encoding_record(self.opened, self.name, instruction),
                show_progress_bar=self.show_progress_bar,
                log=self.log,
            ),
            log=self.log,
            show_progress_bar=self.show_progress_bar,
        )
        return TaskEvaluation(
            evaluation=evaluation,
            notes=self._truncated(instruction, evaluation),
            model_meta=self._meta,
        )

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

    def _truncated(self, instruction: str, evaluation: Evaluation) -> tuple[str, ...]:
        """How many queries and documents were truncated."""
        prompts = tokenize_queries(
            self.opened.resolved.tokenizer,
            self.opened.preset.with_instruction(instruction),
            [query.text for query in evaluation.collection.queries],
            max_tokens=self.opened.options.max_query_tokens,
        )
        (system,) = evaluation.systems
        counts = (
            (sum(prompt.truncated for prompt in prompts), len(prompts), "queries"),
            (system.truncated_documents, len(evaluation.collection.documents), "documents"),
        )
        return tuple(
            f"{evaluation.title}: {truncated:,} of {counted(total, what)} truncated."
            for truncated, total, what in counts
            if truncated
        )

    @property
    def _meta(self) -> Mapping[str, Any]:
        model = self._model
        is_hub_name = self.name.count("/") == 1 and not Path(self.name).exists()
        trained_on = self.opened.provenance.trained_on
        return mteb_model_meta(
            self.name if is_hub_name else f"local/{Path(self.name).resolve().name}",
            revision=model.fingerprint[:40],
            parameters=_num_parameters(model),
            embed_dim=model.embed_dim,
            max_tokens=model.options.max_document_tokens,
            trained_on=None if trained_on is None else list(trained_on),
            uses_instructions=self.opened.preset.uses_instruction,
        )


def _num_parameters(model: T1) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model.decoder, nnx.Param)))


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFileSystem:
    """The run files of another system, which are only scored.

    Attributes:
        path: the file of a task; `{task}` in it stands for the name of the task.
        tasks: the tasks to score.
        config: settings.
    """

    path: str
    tasks: Sequence[str]
    config: EvaluationConfig

    def __post_init__(self) -> None:
        if _TASK not in self.path and len(self.tasks) > 1:
            raise ConfigError(
                f"{self.path} is the run of one task, and there are {len(self.tasks)}",
                hint=f"write {_TASK} where the name of the task is, or choose one with --task",
            )

    @property
    def title(self) -> Mapping[str, str]:
        """See `BenchmarkSystem.title`."""
        return {"run": self.path}

    def check(self, task: str, queries: Sequence[Query]) -> None:
        """See `BenchmarkSystem.check`."""
        if not (path := self._file(task)).is_file():
            raise DataError(f"{path} does not exist", hint="check --run")

    def settings(self, task: str) -> Mapping[str, Any]:
        """See `BenchmarkSystem.settings`."""
        path = self._file(task)
        return {
            "run": sha256_of(path) if path.is_file() else None,
            "config": asdict(self.config),
        }

    def evaluate(self, task: str, collection: Collection) -> TaskEvaluation:
        """See `BenchmarkSystem.evaluate`."""
        evaluation = evaluate_run_file(self._file(task), collection, "test", self.config)
        return TaskEvaluation(evaluation=replace(evaluation, split=None))

    def _file(self, task: str) -> Path:
        return Path(self.path.replace(_TASK, task))
