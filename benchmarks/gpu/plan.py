"""The parts of the check, most valuable first, each with its own time limit.

This module imports the standard library alone, so that `--plan` answers on any machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TOTAL_SECONDS = 540
"""The whole check ends within this time, whatever its parts do."""
GRACE_SECONDS = 5
"""Between asking a part to end and killing it."""
_TOY_FLAGS = "--xla_gpu_autotune_level=0"
"""Toy products are over in no time; trying out kernels for each of them is what would take long."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One program of the check.

    Attributes:
        name: of its module in `benchmarks.gpu.parts`.
        group: `correctness`, `speed` or `training`.
        seconds: its time limit.
        what: what it does, in a line.
        xla_flags: added to XLA_FLAGS for this part alone.
        takes_the_rest: whether it may use all the time that the parts before it left over.
    """

    name: str
    group: str
    seconds: float
    what: str
    xla_flags: str = ""
    takes_the_rest: bool = False


PARTS: tuple[Part, ...] = (
    Part(
        name="machine",
        group="correctness",
        seconds=15,
        what="name of the card, versions, measured ceilings of matrix products and copies",
    ),
    Part(
        name="forward",
        group="correctness",
        seconds=90,
        what="logits, embeddings and greedy thoughts against stored CPU results, fp32 and bf16",
    ),
    Part(
        name="attention",
        group="correctness",
        seconds=55,
        what="cuDNN attention against XLA's: padded rows, windows, gradients, time",
    ),
    Part(
        name="gradients",
        group="correctness",
        seconds=70,
        what="one update of each of the three stages against the same update on the CPU, toy size",
        xla_flags=_TOY_FLAGS,
    ),
    Part(
        name="resume",
        group="correctness",
        seconds=50,
        what="N steps, stop, N steps equal 2N steps bit for bit, toy size",
        # Atomic adds in scatters and reductions make sums depend on the order of threads.
        xla_flags=f"{_TOY_FLAGS} --xla_gpu_deterministic_ops=true",
    ),
    Part(
        name="encode",
        group="speed",
        seconds=45,
        what="encode: tokens/s and MFU at 512 and 2,048 tokens, shapes of Qwen3-0.6B and Qwen3-4B",
    ),
    Part(
        name="decode",
        group="speed",
        seconds=85,
        what="decode: tokens/s and share of the memory bandwidth at batch 1, 32, 256, with and "
        "without a shared prefix of 1,024 tokens",
    ),
    Part(
        name="train",
        group="speed",
        seconds=60,
        what="train step: MFU with LoRA and with all weights, shape of Qwen3-0.6B; LoRA at 4B",
    ),
    Part(
        name="rollout",
        group="speed",
        seconds=45,
        what="a stage-3 step split into rollout, reward and update, shape of Qwen3-0.6B",
    ),
    Part(
        name="peer",
        group="speed",
        seconds=25,
        what="transformers with SDPA on the same card: encode and generate, Qwen3-0.6B",
    ),
    Part(
        name="training",
        group="training",
        seconds=60,
        what="configs/untested/t1_gpu.yaml for the time left: tokens/s, steps, validation",
        takes_the_rest=True,
    ),
)


def chosen(names: Sequence[str]) -> tuple[Part, ...]:
    """The parts of these names or groups, in the order of the plan; all without names.

    Raises:
        ValueError: a name that neither a part nor a group has.
    """
    known = {part.name for part in PARTS} | {part.group for part in PARTS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown parts: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return tuple(part for part in PARTS if not names or part.name in names or part.group in names)


def limit_of(part: Part, left: float, *, toy: bool = False) -> float:
    """Seconds that a part may take where `left` seconds of the whole check are left.

    A rehearsal gives a part more, since a CPU may have other work to do.
    """
    return left if part.takes_the_rest else min(part.seconds * (4 if toy else 1), left)


def plan_table(parts: Sequence[Part]) -> str:
    """The parts with their limits as text."""
    lines = [f"{'part':<11}{'group':<13}{'limit':>6}  what"]
    for part in parts:
        limit = "rest" if part.takes_the_rest else f"{part.seconds:g} s"
        lines.append(f"{part.name:<11}{part.group:<13}{limit:>6}  {part.what}")
    lines.append(f"all parts together: at most {TOTAL_SECONDS} s")
    return "\n".join(lines)
