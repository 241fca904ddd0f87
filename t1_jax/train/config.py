"""The config of a training run: model, data, and stages in the order in which they run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.generate import check_temperature
from t1_jax.hub import EMB_TOKEN, EmbTokenMode
from t1_jax.model import LoraConfig
from t1_jax.parallel import MeshConfig
from t1_jax.seeds import check_seed
from t1_jax.text import CANDIDATE_TOKENS
from t1_jax.train.data import DataConfig, LengthConfig, StageDataConfig
from t1_jax.train.infra import CheckpointConfig, HealthConfig, TrackingConfig
from t1_jax.train.layout import MicroBatchConfig
from t1_jax.train.losses import AdvantageConfig, ContrastiveConfig, PolicyConfig
from t1_jax.train.optimizer import OptimizerConfig
from t1_jax.train.rewards import PoolConfig, RewardConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model to train.

    Attributes:
        path: a folder, a GGUF file, or a name that `t1 pull` knows; or the folder of an adapter,
            which is then trained further on its base model.
        dtype: dtype of activations and matrix products; trained weights and moments are float32.
        attention: attention back end, see `t1_jax.model.ModelOptions`.
        remat: activations of a layer that the backward pass may keep, see `ModelOptions`.
        preset: prompts; null takes those of the checkpoint.
        emb_token: how a checkpoint without `<emb_token>` gets one.
        emb_token_init: initial embedding of a new `<emb_token>`: the mean of all rows, or of the
            end-of-sequence rows, so that the model ends thoughts from the first step on.
        replicate_for_sampling: replicate the weights over `fsdp` for sampling and encoding, so that
            no token needs an all-gather. Each device then holds its `tensor` shard of the whole
            model once more, in `dtype`.
        lora: adapters to train instead of all weights. An adapter that is trained further has its
            own rank and targets: give null, or the same.
        export_dtype: dtype of exported weights.

    Raises:
        ConfigError: `emb_token_init` changes a row that the adapter does not store.
    """

    path: str = "smollm2-135m-instruct"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    attention: Literal["xla", "cudnn", "splash"] = "xla"
    remat: Literal["none", "full", "projections", "dots"] = "projections"
    preset: str | None = None
    emb_token: EmbTokenMode = "auto"
    emb_token_init: Literal["mean", "end"] = "mean"
    replicate_for_sampling: bool = False
    lora: LoraConfig | None = None
    export_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"

    def __post_init__(self) -> None:
        if self.emb_token_init == "end" and self.lora is not None and not self.lora.emb_row:
            raise ConfigError(
                "emb_token_init=end changes the row of <emb_token>, which emb_row=false drops",
                hint="set model.lora.emb_row=true or model.emb_token_init=mean",
            )


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses whose sum is the objective of a stage.

    Attributes:
        sft: cross-entropy of the record's thought and `<emb_token>`.
        infonce: the positive against all other documents of the step.
        triplet: the positive against hard negatives, by a margin.
        policy: policy gradient (GRPO and its variants) on the stage's rewards, over thoughts that
            the model samples itself.
    """

    sft: float = 0.0
    infonce: float = 0.0
    triplet: float = 0.0
    policy: float = 0.0

    def __post_init__(self) -> None:
        values = [self.sft, self.infonce, self.triplet, self.policy]
        if not all(0 <= value < float("inf") for value in values) or max(values) == 0:
            raise ConfigError(
                "losses need finite weights of 0 or more, and at least one above 0",
                hint="for example losses.sft=1",
            )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How thoughts are sampled from the model.

    Attributes:
        num_generations: G, thoughts sampled for each query; a policy loss needs at least two.
        max_thought_tokens: maximum tokens of a thought.
        temperature: sampling temperature.
        num_iterations: weight updates for each rollout; with one, no clip has an effect.
        prefetch: sample and reward the next step's thoughts during this step's update, with the
            weights from before it; for devices that neither of the two keeps busy. Costs a copy of
            the trained weights.
        shared_prefix: put a prompt and all its thoughts in one row during the update, so that the
            prompt is computed once; needs the `xla` attention.
        max_rows: maximum thoughts decoded at once.
        resample_rounds: maximum extra batches sampled in a step if the advantage config says
            `zero_variance: resample`.
    """

    num_generations: int = 8
    max_thought_tokens: int = 256
    temperature: float = 1.0
    num_iterations: int = 1
    prefetch: bool = False
    shared_prefix: bool = True
    max_rows: int = 64
    resample_rounds: int = 2

    def __post_init__(self) -> None:
        for name, least in (
            ("num_generations", 1),
            ("max_thought_tokens", 1),
            ("num_iterations", 1),
            ("max_rows", 1),
            ("resample_rounds", 0),
        ):
            if self.__dict__[name] < least:
                raise ConfigError(f"{name} must be at least {least}, got {self.__dict__[name]}")
        if self.temperature == 0:
            raise ConfigError("a greedy rollout samples equal thoughts; use a temperature above 0")
        check_temperature("temperature", self.temperature, greedy=False)


@dataclass(frozen=True, kw_only=True)
class CandidatesConfig:
    """Candidates in the prompts of a stage: documents that the query finds without a thought.

    The embeddings of the queries are those of the weights in training. The order is random, so that
    it does not say which is nearest. If the title of a positive is shown, the reference thought is
    this title; otherwise it is that of the record. Train the embedding without a thought on other
    queries (`data.query_range`): on its own training queries it finds the positive too often.

    Attributes:
        k: number of titles; 0 shows none. The preset must have a prompt for them.
        refresh_steps: most age of document embeddings in steps.
        left_out_fraction: fraction of the queries whose positives are not shown, so that the model
            also learns to say what is missing.
    """

    k: int = 0
    refresh_steps: int = 50
    left_out_fraction: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("k", 0), ("refresh_steps", 1)):
            if self.__dict__[name] < least:
                raise ConfigError(f"{name} must be at least {least}, got {self.__dict__[name]}")
        if not 0 <= self.left_out_fraction <= 1:
            raise ConfigError(
                f"left_out_fraction must be from 0 to 1, got {self.left_out_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: its data, its objective, and its length.

    Attributes:
        losses: weights of the losses.
        steps: number of steps; exclusive with `epochs`.
        epochs: passes over the data; exclusive with `steps`.
        think: embed queries after a thought; false embeds them directly.
        sample_thoughts: embed queries after thoughts that the model samples itself, as in
            retrieval, instead of the reference thoughts, which say more than the model will
            (exposure bias). Implied by a policy loss.
        contrast_reference_thoughts: besides its sampled thoughts, also embed a query after its
            reference thought. Early sampled thoughts are vague; reference thoughts teach that the
            embedding depends on what a thought says.
        fixed_thought: one thought for all queries instead of their own, such as "The embedding
            is": a warm-up without reasoning, as in Search-R3 (arXiv:2510.07048).
        train_emb_token: whether `<emb_token>` is an SFT target; if not, it is always appended.
        pack: put several texts in a row; only for stages with no loss but `sft`.
        data: batch size, and what a step draws for each query.
        micro_batch: what is computed at once.
        optimizer: learning rate, schedule, AdamW.
        contrastive: constants of the contrastive losses.
        rollout: how thoughts are sampled.
        reward: reward terms of sampled thoughts.
        advantage: from the rewards of a group to advantages.
        policy: the policy loss.
        pool: the documents that rewards rank.
        candidates: titles that the prompts of a stage that thinks show.
        validate_every: steps between two validations; 0 validates only at the end of the stage.
    """

    losses: LossWeights
    steps: int | None = None
    epochs: float | None = None
    think: bool = True
    sample_thoughts: bool = False
    contrast_reference_thoughts: bool = False
    fixed_thought: str | None = None
    train_emb_token: bool = True
    pack: bool = False
    data: StageDataConfig = StageDataConfig()
    micro_batch: MicroBatchConfig = MicroBatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    policy: PolicyConfig = PolicyConfig()
    pool: PoolConfig = PoolConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    validate_every: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("a stage needs either steps or epochs", hint="for example steps=100")
        for name in ("steps", "epochs"):
            if self.__dict__[name] is not None and self.__dict__[name] <= 0:
                raise ConfigError(f"{name} must be above 0, got {self.__dict__[name]}")
        if self.validate_every < 0:
            raise ConfigError(f"validate_every must be at least 0, got {self.validate_every}")
        self._check_losses()

    @property
    def draws_thoughts(self) -> bool:
        """Whether the model samples thoughts in this stage, with or without a reward."""
        return self.sample_thoughts or self.losses.policy > 0

    @property
    def uses_reference_thoughts(self) -> bool:
        """Whether the stage reads the thoughts of the records."""
        return (
            bool(self.losses.sft)
            or self.contrast_reference_thoughts
            or (self.think and not self.draws_thoughts)
        )

    def prompt_tokens(self, lengths: LengthConfig) -> int:
        """Most tokens of a query's prompt: candidates are in addition to `lengths.query`."""
        return lengths.query + self.candidates.k * (CANDIDATE_TOKENS + 1)

    def _check_losses(self) -> None:
        losses = self.losses
        if self.pack and (losses.infonce or losses.triplet or losses.policy):
            raise ConfigError(
                "packed rows have no embeddings, so a packed stage supports no loss but sft",
                hint="set pack=false, or infonce, triplet and policy to 0",
            )
        if losses.policy and self.rollout.num_generations < 2:
            raise ConfigError(
                f"a group needs at least 2 thoughts, got {self.rollout.num_generations}",
                hint="set rollout.num_generations=8",
            )
        if losses.triplet and not self.data.hard_negatives:
            raise ConfigError(
                "the triplet loss compares with hard negatives, and data.hard_negatives is 0",
                hint="set data.hard_negatives=7 (`t1 mine` finds negatives), or losses.triplet=0",
            )
        if not self.think and (losses.sft or self.draws_thoughts):
            raise ConfigError(
                "think=false leaves no thought to imitate or to sample",
                hint="set sample_thoughts=false, losses.sft=0 and losses.policy=0, or think=true",
            )
        if self.sample_thoughts and not (losses.infonce or losses.triplet or losses.policy):
            raise ConfigError(
                "sample_thoughts samples thoughts for embeddings, and no loss compares embeddings",
                hint="set losses.infonce above 0, or sample_thoughts=false",
            )
        if self.contrast_reference_thoughts and not (
            self.draws_thoughts and (losses.infonce or losses.triplet)
        ):
            raise ConfigError(
                "contrast_reference_thoughts needs sample_thoughts and a contrastive loss",
                hint="set sample_thoughts=true and losses.infonce=1",
            )
        if self.candidates.k and (not self.think or self.fixed_thought is not None):
            raise ConfigError(
                "candidates are shown to a model that thinks about them, and this stage has "
                f"{'a fixed thought' if self.think else 'think=false'}",
                hint="set candidates.k=0",
            )
        if self.fixed_thought is not None:
            if not self.think or self.draws_thoughts or EMB_TOKEN in self.fixed_thought:
                raise ConfigError(
                    f"fixed_thought needs a stage that thinks and samples no thoughts, and no "
                    f"{EMB_TOKEN} in it, which the trainer appends; got {self.fixed_thought!r}",
                    hint="remove fixed_thought, or the token from it",
                )
            if not self.fixed_thought.strip():
                raise ConfigError(
                    "fixed_thought is blank", hint="set think=false to embed without a thought"
                )


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How checkpoints are compared. The split `test` is never used.

    Attributes:
        split: split of the sources' collections, such as `validation` or BEIR's `dev`; `train`
            measures memorization.
        queries: maximum queries of each collection; null takes all.
        max_thought_tokens: maximum tokens of a thought.
        temperature: sampling temperature of thoughts; 0 is greedy.
        documents: maximum documents of a corpus, first those with a relevance label for the
            queries; null takes all. A subset is faster, and its scores compare only with each
            other.
    """

    split: str = "validation"
    queries: int | None = 200
    max_thought_tokens: int = 256
    temperature: float = 0.0
    documents: int | None = None

    def __post_init__(self) -> None:
        if self.split == "test":
            raise ConfigError(
                "checkpoints chosen on the split test would make its scores meaningless",
                hint="validate on another split, for example validation.split=dev",
            )
        for name in ("queries", "max_thought_tokens", "documents"):
            if self.__dict__[name] is not None and self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")
        check_temperature("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run. The same config again resumes it.

    Attributes:
        output: the run folder, or gs://BUCKET/FOLDER for machines that share no disk.
        seed: seed of data order, thoughts and new weights.
        model: the model to train.
        mesh: device mesh.
        data: training data.
        stages: name -> stage, in the order in which they run.
        run: names of the stages to run; empty runs all. Each starts from the weights of the stage
            before it in the run folder, the first from the model's.
        validation: how checkpoints are compared; null trains without validation, on data without
            held-out queries too.
        validate_first: also validate before the first step, so that curves start at the base model.
        checkpoints: when to save, and which checkpoints to keep.
        tracking: where metrics go.
        health: limits on metrics beyond which a run is stopped.
        max_minutes: save and stop after this many minutes; null is no limit.
        watchdog_minutes: end with exit code 75 if no step, decoded chunk or encoded batch is
            complete for this many minutes, because a reward or a device hangs; null waits forever.
        resume: resume a run folder although its config was different.
        overwrite: start a new run, and remove the one in the folder.
    """

    output: Path = Path("runs/train")
    seed: int = 0
    model: ModelConfig = ModelConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    stages: dict[str, StageConfig] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    validation: ValidationConfig | None = ValidationConfig()
    validate_first: bool = False
    checkpoints: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    health: HealthConfig = HealthConfig()
    max_minutes: float | None = None
    watchdog_minutes: float | None = 60.0
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("a run needs at least one stage", hint="see configs/ for examples")
        if not self.data.sources:
            raise ConfigError(
                "a run needs training data", hint="for example data.sources.cwe.collection=cwe"
            )
        if unknown := [name for name in self.run if name not in self.stages]:
            raise ConfigError(
                f"run names unknown stages: {', '.join(unknown)}",
                hint=f"known are {', '.join(self.stages)}",
            )
        check_seed(self.seed)
        for name in ("max_minutes", "watchdog_minutes"):
            minutes = getattr(self, name)
            if minutes is not None and minutes <= 0:
                raise ConfigError(f"{name} must be above 0, got {minutes}")
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite contradict each other", hint="set one of them")

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the stages that run, in order."""
        return tuple(name for name in self.stages if not self.run or name in self.run)
