"""What a training run may be told. A curriculum is a config: stages run in the order written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.generate import check_temperature
from t1_jax.hub import EMB_TOKEN, EmbTokenMode
from t1_jax.model import LoraConfig
from t1_jax.parallel import MeshConfig
from t1_jax.seeds import check_seed
from t1_jax.train.data import StageDataConfig
from t1_jax.train.data_config import DataConfig
from t1_jax.train.layout import MicroBatchConfig
from t1_jax.train.losses import AdvantageConfig, ContrastiveConfig, PolicyConfig
from t1_jax.train.optimizer import OptimizerConfig
from t1_jax.train.rewards import PoolConfig, RewardConfig
from t1_jax.train.run import CheckpointConfig, HealthConfig, TrackingConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model that learns.

    Attributes:
        path: a folder, a GGUF file, or a name that `t1 pull` knows; or the folder of an adapter,
            which then goes on learning beside its base model.
        dtype: of activations and of weights in products; masters and moments are float32.
        attention: back end; see `t1_jax.model.ModelOptions`.
        remat: what the backward pass may keep of a layer; likewise.
        preset: prompts; default those of the checkpoint.
        emb_token: how a checkpoint without `<emb_token>` gets one.
        emb_token_init: what the row of such a new token starts from: the mean of all rows, or of
            those that end an answer, so that a model knows from the first step where a thought
            ends.
        replicate_for_sampling: the copy of the weights that draws thoughts and encodes documents is
            not split over `fsdp`, so that nothing is gathered for every token. A device then holds
            its `tensor` share of the whole model once more, in `dtype`.
        lora: adapters to train instead of all weights. An adapter that goes on learning has its
            rank and targets already: give none, or the same.
        export_dtype: of the weights that a run exports.

    Raises:
        ConfigError: `emb_token_init` moves a row that the adapter does not store.
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
                "emb_token_init=end moves the row of <emb_token>, which emb_row=false drops",
                hint="set model.lora.emb_row=true or model.emb_token_init=mean",
            )


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The objective of a stage: a weighted sum of what has a weight above 0.

    Attributes:
        sft: imitation of the record's thought and `<emb_token>`.
        infonce: the positive against all other documents of the step.
        triplet: the positive against hard negatives, by a margin.
        policy: GRPO with the stage's rewards, over thoughts that the model draws itself.
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
    """How a model that draws its own thoughts thinks.

    Attributes:
        num_generations: G, drawn for each query; a policy loss compares at least two.
        max_thought_tokens: most tokens of a thought.
        temperature: at which they are drawn.
        num_iterations: updates of the weights for each rollout; with one, no clip does anything.
        prefetch: thoughts of the next step are drawn and rewarded while this one is learnt from, by
            the weights before it; for devices that one of the two does not fill. It costs a copy of
            the weights that learn.
        shared_prefix: a prompt and all its thoughts are one row when learning, so that the prompt
            is read once; needs the `xla` attention.
        max_rows: thoughts in flight at once.
        resample_rounds: further batches drawn at most, in a step whose advantage config says
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
            raise ConfigError("a greedy rollout gives G equal thoughts; use a temperature above 0")
        check_temperature("temperature", self.temperature, greedy=False)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: what it learns from, what it optimizes, and for how long.

    Attributes:
        losses: the objective.
        steps: updates; not with `epochs`.
        epochs: passes over the data; not with `steps`.
        think: whether queries are embedded after a thought, or at once.
        sample_thoughts: queries are embedded after thoughts that the model draws itself, as when it
            retrieves, and not after the given ones, which tell more than it will ever think. A
            stage with a policy loss always draws them.
        contrast_reference_thoughts: beside its own thoughts, a query is also embedded after the one
            it is given. What a thought says then moves the vector, which own thoughts, all of them
            vague at first, do not teach.
        fixed_thought: one thought for all queries in place of their own, such as "The embedding
            is": a warm-up without reasoning, as in Search-R3 (arXiv:2510.07048).
        train_emb_token: whether `<emb_token>` itself is imitated; without, it is always forced.
        pack: rows of several texts, for stages that only imitate; needs no other loss.
        data: batches and what is drawn for each query.
        micro_batch: what is computed at once.
        optimizer: rates and schedules.
        contrastive: temperature, margin, distance.
        rollout: how own thoughts are drawn.
        reward: what they are rewarded for.
        advantage: how rewards of a group become advantages.
        policy: the loss of stage 3.
        pool: the documents that rewards rank.
        validate_every: steps between two validations; 0 validates at the end of the stage alone.
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
        """Whether the model thinks in this stage, with or without a reward."""
        return self.sample_thoughts or self.losses.policy > 0

    def _check_losses(self) -> None:
        losses = self.losses
        if self.pack and (losses.infonce or losses.triplet or losses.policy):
            raise ConfigError(
                "packed rows hold no vectors, so a packed stage can only imitate",
                hint="set pack=false, or leave losses.sft alone",
            )
        if losses.policy and self.rollout.num_generations < 2:
            raise ConfigError(
                f"a group needs at least 2 thoughts to compare, got {self.rollout.num_generations}",
                hint="set rollout.num_generations=8",
            )
        if losses.triplet and not self.data.hard_negatives:
            raise ConfigError(
                "the triplet loss compares with hard negatives, and data.hard_negatives is 0",
                hint="draw some (`t1 mine` finds them), or set losses.triplet=0",
            )
        if not self.think and (losses.sft or self.draws_thoughts):
            raise ConfigError(
                "think=false leaves nothing to imitate or to draw",
                hint="set sample_thoughts=false, losses.sft=0 and losses.policy=0, or think=true",
            )
        if self.sample_thoughts and not (losses.infonce or losses.triplet or losses.policy):
            raise ConfigError(
                "sample_thoughts draws thoughts for vectors, and no loss is between vectors",
                hint="give losses.infonce a weight, or set sample_thoughts=false",
            )
        if self.contrast_reference_thoughts and not (
            self.draws_thoughts and (losses.infonce or losses.triplet)
        ):
            raise ConfigError(
                "contrast_reference_thoughts needs sample_thoughts and a contrastive loss",
                hint="set sample_thoughts=true and losses.infonce=1",
            )
        if self.fixed_thought is not None:
            if not self.think or self.draws_thoughts or EMB_TOKEN in self.fixed_thought:
                raise ConfigError(
                    f"fixed_thought is a given thought, without {EMB_TOKEN}, which the trainer "
                    f"appends; got {self.fixed_thought!r}",
                    hint="take it out of a stage that draws its own thoughts or thinks none",
                )
            if not self.fixed_thought.strip():
                raise ConfigError(
                    "fixed_thought is blank", hint="set think=false to embed without a thought"
                )


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How checkpoints are compared. The split `test` is never touched.

    Attributes:
        split: of the sources' collections, such as `validation` or BEIR's `dev`; `train` shows how
            much is learnt by heart.
        queries: most queries of each collection; None takes all.
        max_thought_tokens: most tokens of a thought.
        temperature: of thoughts; 0 is greedy.
        documents: most documents of a corpus, those judged for the queries and then the first ones;
            None takes all. A part is quicker, and its scores compare with each other alone.
    """

    split: str = "validation"
    queries: int | None = 200
    max_thought_tokens: int = 256
    temperature: float = 0.0
    documents: int | None = None

    def __post_init__(self) -> None:
        if self.split == "test":
            raise ConfigError(
                "a checkpoint that is chosen on the split test says nothing on that split",
                hint="validate on another split, for example validation.split=dev",
            )
        for name in ("queries", "max_thought_tokens", "documents"):
            if self.__dict__[name] is not None and self.__dict__[name] < 1:
                raise ConfigError(f"{name} must be at least 1, got {self.__dict__[name]}")
        check_temperature("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run. Given again, it goes on where it stopped.

    Attributes:
        output: the run folder.
        seed: of data order, thoughts and new weights.
        model: what learns.
        mesh: how devices are laid out.
        data: what is learnt from.
        stages: by name, in the order in which they run.
        run: names of the stages to run, in the order of `stages`; default all. Each starts from
            the weights of the stage before it in the run folder, the first from the model's.
        validation: how checkpoints are compared.
        validate_first: also measure before the first step, so that a curve starts at the base.
        checkpoints: how often, and which are kept.
        tracking: where measures go.
        health: when a run is broken.
        sample_every: steps between two samples of drawn thoughts in the run folder.
        max_minutes: saves and stops after so long; None is no limit.
        resume: go on with a run folder although its config was another.
        overwrite: begin anew, and remove what the run folder holds.
    """

    output: Path = Path("runs/train")
    seed: int = 0
    model: ModelConfig = ModelConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    stages: dict[str, StageConfig] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    validation: ValidationConfig = ValidationConfig()
    validate_first: bool = False
    checkpoints: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    health: HealthConfig = HealthConfig()
    sample_every: int = 20
    max_minutes: float | None = None
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
        if self.sample_every < 1:
            raise ConfigError(f"sample_every must be at least 1, got {self.sample_every}")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ConfigError(f"max_minutes must be above 0, got {self.max_minutes}")
        if self.resume and self.overwrite:
            raise ConfigError("resume and overwrite contradict each other", hint="give one of them")

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the stages that run, in order."""
        return tuple(name for name in self.stages if not self.run or name in self.run)
