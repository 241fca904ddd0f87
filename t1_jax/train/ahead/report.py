"""Compiles the programs of a run for a topology: memory by kind, collectives, time of a step."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from t1_jax.model import DecoderConfig, flops_per_token
from t1_jax.parallel import Topology, make_mesh_context
from t1_jax.train.ahead.abstract import abstract_model
from t1_jax.train.ahead.flops import count_flops
from t1_jax.train.ahead.hlo import Collective, collectives
from t1_jax.train.ahead.ideal import ideal_sent
from t1_jax.train.ahead.programs import ROLLOUT, Program, StagePrograms, stage_programs
from t1_jax.train.checks import check_shapes
from t1_jax.train.config import StageConfig, TrainConfig

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Rr]an out of memory|Exceeded hbm capacity")
_USED = re.compile(r"Used ([\d.]+)([GMK]) of")
_UNIT = {"G": 2**30, "M": 2**20, "K": 2**10}


@dataclass(frozen=True, kw_only=True)
class ProgramReport:
    """A compiled program; bytes are those of one device.

    Attributes:
        name: name of the program.
        runs: executions in a step.
        arguments: its arguments.
        outputs: its results that do not take the place of arguments.
        temporary: activations and other buffers while it runs.
        beside: what else is in memory: optimizer state, residuals and others.
        flops: FLOPs of an execution over all devices, recomputation included.
        collectives: what the devices send each other.
        ideal: bytes that a chip would send if only weights travelled, as FSDP has it; see
            `ideal_sent`.
        seconds: time of an execution that FLOPs, memory and links allow; None on a CPU.
        bound: what takes that time: "compute", "memory" or "links".
        compile_seconds: time that compiling took.
    """

    name: str
    runs: int
    arguments: int
    outputs: int
    temporary: int
    beside: int
    flops: float
    collectives: tuple[Collective, ...]
    ideal: float
    seconds: float | None
    bound: str
    compile_seconds: float

    @property
    def sent(self) -> float:
        """Bytes that a chip sends in an execution."""
        return math.fsum(each.sent for each in self.collectives)

    @property
    def peak(self) -> int:
        """Bytes in memory while it runs."""
        return self.arguments + self.outputs + self.temporary + self.beside


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """A stage on a topology.

    Attributes:
        name: name of the stage.
        topology: the devices.
        state: kind -> bytes on each device, see `StagePrograms.state`.
        programs: the compiled programs.
        tokens: tokens of a step in its updates, at the largest lengths.
        seconds: time of a step's updates, and of sampling and encoding for it; None on a CPU.
        mfu: FLOPs of the model in the updates over the peak of the devices in the time of the
            updates, from 0 to 1; None on a CPU.
        hint: the setting to change if it does not fit; None if it fits.
    """

    name: str
    topology: Topology
    state: dict[str, int]
    programs: tuple[ProgramReport, ...]
    tokens: int
    seconds: tuple[float, float] | None
    mfu: float | None
    hint: str | None

    @property
    def sent_over_ideal(self) -> float | None:
        """What a chip sends in the updates of a step over the ideal; None where that is nothing."""
        updates = [program for program in self.programs if not program.name.startswith(ROLLOUT)]
        ideal = sum(program.runs * program.ideal for program in updates)
        return sum(program.runs * program.sent for program in updates) / ideal if ideal else None

    @property
    def peak(self) -> int:
        """Bytes in memory at the program that needs most."""
        return max(program.peak for program in self.programs)

    @property
    def fits(self) -> bool:
        """Whether every program fits into the memory of a chip."""
        return self.peak <= self.topology.chip.memory

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        found = asdict(self) | {"peak": self.peak, "fits": self.fits}
        found["sent_over_ideal"] = self.sent_over_ideal
        return found | {"topology": self.topology.name, "memory": self.topology.chip.memory}


def compile_run(
    config: TrainConfig,
    shape: DecoderConfig,
    topology: Topology,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[StageReport]:
    """Compiles every stage that runs, one after the other.

    Raises:
        ConfigError: the mesh does not cover the topology, or a stage does not fit model or mesh.
        UnsupportedError: libtpu is not installed, or an attention back end that the chips lack.
    """
    yield from StageCompiler(shape, topology, log).run(config)


class StageCompiler:
    """Compiles stages of one model for one topology, and no program twice."""

    def __init__(
        self, shape: DecoderConfig, topology: Topology, log: Callable[[str], None]
    ) -> None:
        self.shape, self.topology, self._log = shape, topology, log
        self._compiled: dict[str, ProgramReport] = {}

    def run(self, config: TrainConfig) -> Iterator[StageReport]:
        """Compiles the stages of a config that run; raises as `compile_run`."""
        chip = self.topology.chip
        mesh_context = make_mesh_context(config.mesh, devices=self.topology.devices())
        check_shapes(config, self.shape, mesh_context.batch_divisor)
        # GPU programs are compiled by the CPU's compiler, which has no cuDNN.
        model_config = config.model
        if chip.platform == "gpu" and model_config.attention == "cudnn":
            model_config = replace(model_config, attention="xla")
        platform = "tpu" if chip.platform == "tpu" else "cpu"
        model = abstract_model(model_config, self.shape, mesh_context, platform)
        dtype = jnp.dtype(config.model.dtype)
        with mesh_context.activate():
            for name in config.running:
                stage = stage_programs(config, name, model)
                reports = []
                for program in stage.programs:
                    self._log(f"{name}: compiling {program.name} for {self.topology.name}")
                    ideal = ideal_sent(
                        model.trained,
                        model.parts.frozen,
                        program.weight_passes,
                        mesh_context,
                        dtype,
                    )
                    held = sum(stage.state.get(kind, 0) for kind in program.resident)
                    reports.append(
                        replace(
                            self._compile(program),
                            name=program.name,
                            runs=program.runs,
                            beside=program.beside + held,
                            ideal=ideal,
                        )
                    )
                yield _stage_report(config, name, self.shape, self.topology, stage, reports)

    def _compile(self, program: Program) -> ProgramReport:
        traced = program.trace()
        text = f"{program.loop_trips} {traced.jaxpr}"
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self._compiled:
            self._compiled[key] = _compile(program, traced, self.topology)
        return self._compiled[key]


def _compile(program: Program, traced: jax.stages.Traced, topology: Topology) -> ProgramReport:
    """The report of a program, of what it needs for itself."""
    start = time.perf_counter()
    report = ProgramReport(
        name=program.name,
        runs=program.runs,
        arguments=0,
        outputs=0,
        temporary=0,
        beside=0,
        flops=count_flops(traced.jaxpr, loop_trips=program.loop_trips),
        collectives=(),
        ideal=0.0,
        seconds=None,
        bound="memory",
        compile_seconds=0.0,
    )
    try:
        compiled = traced.lower().compile()
    except Exception as error:  # the compiler's own, of several types
        used = _USED.search(str(error))
        if not _OUT_OF_MEMORY.search(str(error)) or used is None:
            raise
        needed = int(float(used[1]) * _UNIT[used[2]])
        return replace(report, temporary=needed, compile_seconds=time.perf_counter() - start)
    memory = cast("Any", compiled.memory_analysis())
    text = compiled.as_text() or ""
    sent = collectives(text, topology.num_devices, loop_trips=program.loop_trips)
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes
    moved = program.loop_trips * (arguments + results) + 2 * temporary
    total_sent = math.fsum(each.sent for each in sent)
    seconds, bound = _roofline(report.flops, moved, total_sent, topology)
    return replace(
        report,
        arguments=arguments,
        outputs=max(results - memory.alias_size_in_bytes, 0),
        temporary=temporary,
        collectives=tuple(sent),
        seconds=seconds,
        bound=bound,
        compile_seconds=time.perf_counter() - start,
    )


def _roofline(
    flops: float, moved: int, sent: float, topology: Topology
) -> tuple[float | None, str]:
    """The longest of three times: computing, reading and writing memory once, and sending.

    Arguments and results are read and written once (in every trip of a decoding loop), temporary
    buffers twice; what is computed and sent at the same time overlaps. So it is a lower bound.
    """
    chip = topology.chip
    if chip.peak_flops is None or chip.memory_bandwidth is None or chip.link_bandwidth is None:
        return None, ""
    times = {
        "compute": flops / (chip.peak_flops * topology.num_devices),
        "memory": moved / chip.memory_bandwidth,
        "links": sent / (topology.links * chip.link_bandwidth),
    }
    bound = max(times, key=lambda name: times[name])
    return times[bound], bound


def _stage_report(
    config: TrainConfig,
    name: str,
    shape: DecoderConfig,
    topology: Topology,
    stage: StagePrograms,
    programs: Sequence[ProgramReport],
) -> StageReport:
    seconds = {"update": 0.0, "rollout": 0.0}
    for program in programs:
        part = "rollout" if program.name.startswith(ROLLOUT) else "update"
        seconds[part] += program.runs * (program.seconds or 0.0)
    tokens = sum(group.tokens * group.count * group.batch.tokens.shape[0] for group in stage.groups)
    flops = sum(
        group.tokens
        * group.count
        * group.batch.tokens.shape[0]
        * flops_per_token(
            shape,
            work="train" if config.model.lora is None else "lora",
            context=group.tokens / 2,
            read=group.targets / group.tokens,
        )
        for group in stage.groups
    )
    peak = topology.chip.peak_flops
    report = StageReport(
        name=name,
        topology=topology,
        state=stage.state,
        programs=tuple(programs),
        tokens=tokens,
        seconds=None if peak is None else (seconds["update"], seconds["rollout"]),
        mfu=None if peak is None else flops / (seconds["update"] * peak * topology.num_devices),
        hint=None,
    )
    return report if report.fits else replace(report, hint=fitting_hint(config, name, report))


def fitting_hint(config: TrainConfig, name: str, report: StageReport) -> str:
    """The setting that saves most where a stage does not fit."""
    stage: StageConfig = config.stages[name]
    largest = max(report.programs, key=lambda program: program.peak)
    held = sum(size for kind, size in report.state.items() if kind != "caches")
    chips = report.topology.num_devices
    if held > 0.8 * report.topology.chip.memory:
        if config.mesh.fsdp * config.mesh.tensor < chips:
            return f"the state alone takes most of it: shard it, mesh.fsdp={chips} mesh.data=1"
        return "the state alone takes most of it: more chips, or adapters (model.lora.rank=16)"
    if largest.name.startswith(("decode", "prefill")):
        return f"stages.{name}.rollout.max_rows={max(stage.rollout.max_rows // 2, 1)}"
    if largest.name.startswith("encode documents"):
        return "data.lengths.document: shorten documents"
    if largest.name.startswith("encode queries"):
        return "data.lengths.query: shorten queries"
    if stage.micro_batch.keep_residuals:
        return f"stages.{name}.micro_batch.keep_residuals=false"
    if config.model.remat != "full":
        return "model.remat=full"
    return f"stages.{name}.micro_batch.rows={max(stage.micro_batch.rows // 2, 1)}"
