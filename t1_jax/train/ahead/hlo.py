"""Reads a compiled program's text: its collectives, with the bytes that each chip sends."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_FUSED_SCATTER = "all-reduce-scatter"
"""In the name of a fusion by which a TPU reduces and keeps one share; its text says all-reduce."""

_COMPUTATION = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s+\(.*->.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT\s+)?%?[\w.\-]+\s+=\s+(.*?)\s([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"\b(body|calls|to_apply|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?\s*[:=]\s*\{"?n"?[:=]"?(\d+)"?\}')
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_LESS = re.compile(r"ROOT\s.*\scompare\(%?([\w.\-]+), %?([\w.\-]+)\), direction=LT")
_CHAIN = re.compile(r'\bchain_id="(\d+)"')
_GROUPS = re.compile(r"replica_groups=(?:\[(\d+),(\d+)\]<=|\{\{([\d,]*)\})")
_NAMED_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\]")


@dataclass(frozen=True, kw_only=True)
class Collective:
    """All executions of the collectives of one kind.

    Attributes:
        kind: one of `KINDS`.
        count: number of executions.
        sent: bytes that one chip sends in all of them together, by a ring over its group.
    """

    kind: str
    count: int
    sent: float


def collectives(text: str, num_devices: int, *, loop_trips: int = 1) -> list[Collective]:
    """The collectives of a compiled module, over all trips of its loops, largest first.

    `text` is that of `jax.stages.Compiled.as_text`. A loop whose number of trips is not known runs
    `loop_trips` times.
    """
    computations, entry = _computations(text)
    counts: dict[str, int] = defaultdict(int)
    sent: dict[str, float] = defaultdict(float)

    def visit(name: str, times: int, seen: set[str]) -> None:
        for line in computations.get(name, ()):
            match = _INSTRUCTION.match(line)
            if match is None:
                continue
            kind = match[2].removesuffix("-start")
            if kind in KINDS:
                # A TPU overlaps a collective with computation by writing it into several fusions:
                # that which starts it, that which ends it, and those between.
                chain = _CHAIN.search(line)
                if chain is not None:
                    if chain[1] in seen:
                        continue
                    seen.add(chain[1])
                size = _bytes_sent(kind, match[1], line, num_devices)
                if kind == "all-reduce" and _FUSED_SCATTER in name:
                    kind, size = "reduce-scatter", size / 2
                counts[kind] += times
                sent[kind] += times * size
            for role, target in _CALLED.findall(line):
                if role == "to_apply" and kind != "call":
                    continue  # the reduction of single numbers
                trips = _trips(line, computations, loop_trips) if role == "body" else 1
                for called in target.strip("{}").split(","):
                    inside = set() if role == "body" else seen
                    visit(called.strip().lstrip("%"), times * trips, inside)

    visit(entry, 1, set())
    found = [Collective(kind=kind, count=counts[kind], sent=sent[kind]) for kind in counts]
    return sorted(found, key=lambda each: -each.sent)


def _trips(loop: str, computations: dict[str, list[str]], unknown: int) -> int:
    """Trips of a `while`: as stated, or those of a counter from 0 that is below a constant.

    XLA's TPU back end states none.
    """
    if stated := _TRIPS.search(loop):
        return int(stated[1])
    condition = _CONDITION.search(loop)
    lines = computations.get(condition[1], []) if condition else []
    less = next((match for line in lines if (match := _LESS.search(line))), None)
    if less is None:
        return unknown
    index, limit = _counter_index(less[1], lines), _constant(less[2], lines)
    body = _CALLED.search(loop)
    if index is None or limit is None or body is None:
        return unknown
    return -(-limit // _step(index, computations.get(body[2].lstrip("%"), [])))


def _definition(name: str, lines: list[str]) -> str:
    """The line that defines a value; empty for none."""
    head = re.compile(rf"\s+(?:ROOT\s+)?%?{re.escape(name)}\s+=\s")
    return next((line for line in lines if head.match(line)), "")


def _constant(name: str, lines: list[str]) -> int | None:
    value = re.search(r"\sconstant\((\d+)\)", _definition(name, lines))
    return int(value[1]) if value else None


def _counter_index(name: str, lines: list[str]) -> int | None:
    element = re.search(r"get-tuple-element\(.*\), index=(\d+)", _definition(name, lines))
    return int(element[1]) if element else None


def _step(index: int, body: list[str]) -> int:
    """What a trip adds to this element of the state; 2 in a loop that XLA unrolled once."""
    root = next((line for line in body if line.lstrip().startswith("ROOT")), "")
    operands = re.search(r"\stuple\((.*?)\)", re.sub(r"/\*.*?\*/", "", root))
    if operands is None:
        return 1
    name = operands[1].split(",")[index].split()[-1].lstrip("%")
    added = re.search(r"\sadd\(%?[\w.\-]+, %?([\w.\-]+)\)", _definition(name, body))
    return (_constant(added[1], body) if added else None) or 1


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Name -> lines of each computation, and the name of the entry."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head is not None:
            lines = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.rstrip() == "}":  # strings of Pallas kernels have lines that begin with one
            lines = None
        elif lines is not None:
            lines.append(line)
    return computations, entry


def _bytes_sent(kind: str, result: str, line: str, num_devices: int) -> float:
    """Bytes that one chip sends for a collective with this result type.

    A collective that XLA combined of several has a tuple of their results.
    """
    elements = _elements(result)
    if "-start(" in line and kind != "all-reduce" and len(elements) > 1:
        # Operands, results and, in some, context; of an all-reduce only the results.
        result = elements[1]
    size = sum(_bytes(dtype, sizes) for dtype, sizes in _SHAPE.findall(result))
    group = _group_size(line, num_devices)
    share = (group - 1) / group
    if kind == "all-reduce":
        return 2 * size * share
    if kind == "reduce-scatter":
        # Its result is one share of what was reduced.
        return float(size * (group - 1))
    return float(size) if kind == "collective-permute" else size * share


def _elements(result: str) -> list[str]:
    """The types in a tuple, which may be tuples themselves; a type that is no tuple alone."""
    if not result.startswith("("):
        return [result]
    # Layouts have parentheses and commas too, within braces.
    plain = re.sub(r"\{[^}]*\}|/\*.*?\*/", "", result)[1:-1]
    elements, depth = [""], 0
    for character in plain:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    return elements


def _group_size(line: str, num_devices: int) -> int:
    if named := _NAMED_GROUPS.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    match = _GROUPS.search(line)
    if match is None:
        return num_devices
    if match[2] is not None:
        return int(match[2])
    return len(match[3].split(",")) if match[3] else num_devices


def _bytes(dtype: str, sizes: str) -> int:
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return math.prod(map(int, sizes.split(","))) * bits // 8 if sizes else bits // 8
