"""How long a run takes: FLOPs of each stage over the measured speed of this machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from t1_jax.model import DecoderConfig, Work, flops_per_token
from t1_jax.text import CANDIDATE_TOKENS
from t1_jax.train.config import StageConfig, TrainConfig

_PADDING = 1.3
"""Tokens of a batch, padding included, per token of text."""


@dataclass(frozen=True, kw_only=True)
class _Platform:
    """Constants of a kind of device.

    Attributes:
        train: fraction of the speed of a large matrix product that training and encoding reach.
        decode: the same for decoding, which is bound by memory.
        compile_seconds: seconds that compiling takes the first time.
        matmul_size: rows and columns of the matrices that measure the speed.
    """

    train: float
    decode: float
    compile_seconds: float
    matmul_size: int


# Of the CPU: fitted to configs/experiment/t1.yaml, which takes 35 minutes on two cores.
_CPU = _Platform(train=0.8, decode=0.15, compile_seconds=180.0, matmul_size=1024)
_ACCELERATOR = _Platform(train=0.25, decode=0.01, compile_seconds=120.0, matmul_size=8192)


@dataclass(frozen=True, kw_only=True)
class DataSize:
    """What the time of a run depends on besides its config.

    Attributes:
        queries: number of training queries.
        validation_queries: number of validation queries.
        documents: number of documents of the corpus.
        query_tokens: mean tokens of a query with its prompt, after truncation.
        thought_tokens: mean tokens of a reference thought.
        document_tokens: mean tokens of a document with its prompt, after truncation.
    """

    queries: int
    validation_queries: int
    documents: int
    query_tokens: float
    thought_tokens: float
    document_tokens: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of the devices.

    Attributes:
        train: FLOP/s of training and encoding.
        decode: FLOP/s of decoding.
        compile_seconds: seconds that compiling takes the first time.
    """

    train: float
    decode: float
    compile_seconds: float


def measure_speed() -> Speed:
    """Multiplies matrices in bfloat16 for a fraction of a second on one device."""
    is_cpu = jax.default_backend() == "cpu"
    platform = _CPU if is_cpu else _ACCELERATOR
    size = platform.matmul_size
    matrix = jnp.ones((size, size), jnp.bfloat16)
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        multiply(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    # The virtual devices of a CPU share its cores.
    flops = (1 if is_cpu else jax.device_count()) * 2 * size**3 / best
    return Speed(
        train=platform.train * flops,
        decode=platform.decode * flops,
        compile_seconds=platform.compile_seconds,
    )


class Estimate:
    """Seconds of the parts of a run.

    Args:
        shape: of the decoder.
        size: of the data.
        speed: of the machine.
        lora: whether adapters are trained.
    """

    def __init__(
        self, shape: DecoderConfig, size: DataSize, speed: Speed, *, lora: bool = True
    ) -> None:
        self._shape, self._size, self._speed = shape, size, speed
        self._lora = lora

    def step(self, stage: StageConfig) -> float:
        """Seconds of one step of a stage."""
        size, rollout, queries = self._size, stage.rollout, stage.data.batch_size
        prompt = size.query_tokens + stage.candidates.k * CANDIDATE_TOKENS / 2
        trained, read, seconds = queries * prompt, 0.0, 0.0
        if stage.candidates.k:
            seconds += self._forward(queries * size.query_tokens)
            seconds += self.encode(size.documents) / stage.candidates.refresh_steps
        if stage.draws_thoughts:
            sampled = (
                queries * rollout.num_generations * self._sampled_tokens(rollout.max_thought_tokens)
            )
            seconds += self._forward(queries * prompt) + self._decode(sampled)
            trained += sampled
            read += sampled * bool(stage.losses.policy)
        if stage.uses_reference_thoughts:
            trained += queries * size.thought_tokens
            read += queries * size.thought_tokens * bool(stage.losses.sft)
        if stage.losses.infonce or stage.losses.triplet:
            trained += queries * (1 + stage.data.hard_negatives) * size.document_tokens
        seconds += self._train(trained, read)
        if stage.losses.policy and stage.pool.kind == "corpus":
            corpus = self.encode(size.documents)
            seconds += corpus / max(stage.pool.refresh_steps, 1)
        return seconds

    def encode(self, documents: int) -> float:
        """Seconds to encode documents."""
        return self._forward(documents * self._size.document_tokens)

    def think(self, queries: int, max_thought_tokens: int) -> float:
        """Seconds to embed queries with a thought each."""
        tokens = self._sampled_tokens(max_thought_tokens)
        return self._forward(queries * self._size.query_tokens) + self._decode(queries * tokens)

    def validations(self, config: TrainConfig, steps: Mapping[str, int]) -> float:
        """Seconds of all validations of a run; `steps` are those of its stages."""
        if config.validation is None:
            return 0.0
        count = float(config.validate_first)
        for name, number in steps.items():
            every = config.stages[name].validate_every
            count += -(-number // every) if every else 1
        documents = min(config.validation.documents or self._size.documents, self._size.documents)
        queries = min(config.validation.queries or 1 << 30, self._size.validation_queries)
        once = self.encode(documents) + self.think(queries, config.validation.max_thought_tokens)
        return count * once

    def _sampled_tokens(self, max_thought_tokens: int) -> float:
        """Tokens of a sampled thought; a group ends with its longest."""
        return min(float(max_thought_tokens), 1.5 * self._size.thought_tokens)

    def _forward(self, tokens: float) -> float:
        return self._seconds(tokens, "forward", 0.0, self._speed.train)

    def _decode(self, tokens: float) -> float:
        return self._seconds(tokens, "forward", tokens, self._speed.decode)

    def _train(self, tokens: float, read: float) -> float:
        return self._seconds(tokens, "lora" if self._lora else "train", read, self._speed.train)

    def _seconds(self, tokens: float, work: Work, read: float, speed: float) -> float:
        if not tokens:
            return 0.0
        flops = flops_per_token(
            self._shape,
            work=work,
            context=self._size.query_tokens,
            read=read / tokens,
        )
        return _PADDING * tokens * flops / speed


def fitted_steps(
    config: TrainConfig, shape: DecoderConfig, speed: Speed, *, minutes: float
) -> dict[str, int]:
    """Steps of each stage, all reduced by one factor so that training takes so many minutes.

    It assumes texts as long as the limits of the config, validation included. A stage keeps at
    least two steps, so that it is seen to learn; one whose length is given in epochs is left out.
    """
    lengths, validation = config.data.lengths, config.validation
    size = DataSize(
        queries=0,
        validation_queries=0 if validation is None else validation.queries or 0,
        documents=0 if validation is None else validation.documents or 0,
        query_tokens=float(lengths.query),
        thought_tokens=lengths.thought / 1.5,
        document_tokens=float(lengths.document),
    )
    estimate = Estimate(shape, size, speed, lora=config.model.lora is not None)
    planned = {name: config.stages[name].steps for name in config.running}
    steps = {name: number for name, number in planned.items() if number is not None}
    updates = sum(number * estimate.step(config.stages[name]) for name, number in steps.items())
    fixed = estimate.validations(config, steps) + speed.compile_seconds
    factor = min(max(60 * minutes - fixed, 0.0) / updates, 1.0)
    return {name: max(int(number * factor), min(number, 2)) for name, number in steps.items()}
