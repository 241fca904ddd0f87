"""Template thoughts for `cwe`: name of the weakness, fault, kind, consequence.

All words come from the catalog's entries. Names come first, since they say most about where to
look.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from t1_jax.retrieval import Collection, datasets
from t1_jax.train.data import CORPUS_PREFIX
from t1_jax.train.thoughts.corpus_pairs import TextPair, merge_pairs
from t1_jax.train.thoughts.wording import (
    capitalized,
    count_pieces,
    draw,
    one_line,
    pick,
    sentences,
    shortened,
)

_ALIAS = re.compile(r"^(.*?)\s*\('(.+)'\)$")
_PRODUCT = re.compile(r"^The (?:product|software|application) (?=[a-z])")
_UPSTREAM = re.compile(r"(?:from|by) (?:an|another) upstream component")
_BUT = re.compile(r",? but (?:it )?(?=does|is|do|are|the|has|can|fails|in)")
_EDITORS = re.compile(r"^\[[A-Z][A-Z .]+\S*[^\]]*\]\s*")
_REFERENCE = re.compile(r"\s*\[REF-\d+\]")
_EMPTY_IMPACTS = frozenset(("Other", "Varies by Context"))
_SHORT, _MEDIUM, _LONG = 16, 34, 56
_NAMES = ("Weakness: {}.", "{}.", "This is {}.")
_KINDS = ("a kind of {}", "which is a form of {}", "under {}")
_FAULTS = ("What goes wrong: {}.", "The flaw: {}.", "{}.")
_EFFECTS = ("Consequence: {}.", "It leads to: {}.", "Impact: {}.")
_LEAST_PIECES, _MOST_PIECES = 6, 90
_SENTENCES_OF_EXTENSION, _ILLUSTRATIONS, _MITIGATIONS = 2, 4, 2


def cwe_thoughts(
    weaknesses: Sequence[datasets.Weakness], collection: Collection
) -> dict[str, tuple[str, ...]]:
    """Query id -> alternative thoughts, from the weaknesses of the query's highest grade.

    Usually four: the names, name and fault, fault and name, and all with kind and consequence.
    They cover different weaknesses if several share the highest grade.
    """
    known = {entry.id: entry for entry in weaknesses}
    return {
        query.id: _alternatives(
            [known[gold.id] for gold in golds], known, f"{collection.name} {query.id}"
        )
        for query in collection.queries
        if (golds := collection.gold_documents(query.id))
    }


def cwe_pairs(weaknesses: Sequence[datasets.Weakness]) -> list[TextPair]:
    """Texts of the catalog that describe a weakness in other words than its document.

    Alternative names, notes on consequences, texts about made-up examples, mitigations, and single
    sentences of the description; none describes a real vulnerability.
    """
    live = [entry for entry in weaknesses if entry.status != "Deprecated"]
    known = {entry.id: entry for entry in live}
    return merge_pairs(pair for entry in live for pair in _pairs_of(entry, known))


def _alternatives(
    golds: Sequence[datasets.Weakness], known: Mapping[str, datasets.Weakness], seed: str
) -> tuple[str, ...]:
    order = sorted(golds, key=lambda entry: draw(f"{seed} {entry.id}"))
    first, second = order[0], order[-1]
    names = [_fitting_name(entry, _SHORT // min(len(order), 2)) for entry in order[:2]]
    title = _fitting_name(first, _SHORT)
    thoughts = [
        pick(_NAMES, f"{seed} name").format("; ".join(names)),
        f"{title}: {_fault(first, max(_SHORT, _MEDIUM - count_pieces(title)))}.",
        _fault_then_name(second, known, seed),
        _whole(first, known, seed),
    ]
    return tuple(dict.fromkeys(capitalized(one_line(thought)) for thought in thoughts))


def _fault_then_name(
    entry: datasets.Weakness, known: Mapping[str, datasets.Weakness], seed: str
) -> str:
    tail = f"Weakness: {shortened(_short_name(entry), _SHORT)}{_kind(entry, known, seed)}."
    fault = _fault(entry, max(_SHORT, _MEDIUM + 4 - count_pieces(tail)))
    return f"{capitalized(pick(_FAULTS, f'{seed} fault').format(fault))} {tail}"


def _whole(entry: datasets.Weakness, known: Mapping[str, datasets.Weakness], seed: str) -> str:
    head = f"{shortened(entry.name, _SHORT + 4)}{_kind(entry, known, seed)}."
    impacts = _impacts(entry)
    effect = pick(_EFFECTS, f"{seed} effect").format(impacts) if impacts else ""
    room = _LONG - count_pieces(head) - count_pieces(effect) - 6
    fault = pick(_FAULTS, f"{seed} whole").format(_fault(entry, max(room, 8)))
    return f"{head} {capitalized(fault)} {effect}"


def _kind(entry: datasets.Weakness, known: Mapping[str, datasets.Weakness], seed: str) -> str:
    entries = (known[parent] for parent in entry.parents if parent in known)
    parents = [parent for parent in entries if parent.status != "Deprecated"]
    if not parents:
        return ""
    kind = pick(_KINDS, f"{seed} kind").format(shortened(_short_name(parents[0]), _SHORT - 4))
    return f", {kind}"


def _fitting_name(entry: datasets.Weakness, pieces: int) -> str:
    """The title if it fits; else its alias, or its beginning."""
    if count_pieces(entry.name) <= pieces:
        return entry.name
    return shortened(_short_name(entry), max(pieces, _SHORT))


def _short_name(entry: datasets.Weakness) -> str:
    """The alias if the title gives one in brackets; else the title."""
    match = _ALIAS.match(entry.name)
    return match[2] if match else entry.name


def _fault(entry: datasets.Weakness, pieces: int) -> str:
    """The first sentence of the description; the part after "but" if it is too long."""
    first = _PRODUCT.sub("", sentences(_EDITORS.sub("", entry.description))[0])
    if count_pieces(first) > pieces or _UPSTREAM.search(first):
        first = _BUT.split(first, maxsplit=1)[-1]
    fault = shortened(first, pieces)
    return fault if fault[1:2].isupper() else fault[:1].lower() + fault[1:]


def _impacts(entry: datasets.Weakness) -> str:
    named = dict.fromkeys(
        impact
        for consequence in entry.consequences
        for impact in consequence.impacts
        if impact not in _EMPTY_IMPACTS
    )
    return ", ".join(name if name.startswith("DoS") else name.lower() for name in list(named)[:2])


def _pairs_of(
    entry: datasets.Weakness, known: Mapping[str, datasets.Weakness]
) -> Iterator[TextPair]:
    grades = {parent: 1 for parent in entry.parents if parent in known} | {entry.id: 2}
    texts = [
        *entry.other_names,
        *(consequence.note for consequence in entry.consequences),
        *entry.illustrations[:_ILLUSTRATIONS],
        *entry.mitigations[:_MITIGATIONS],
        *sentences(entry.description)[:1],
        *sentences(entry.extended_description)[:_SENTENCES_OF_EXTENSION],
    ]
    plain = (one_line(_REFERENCE.sub("", text)) for text in texts)
    fit = [text for text in plain if text and not _too_short(text, entry)]
    for number, text in enumerate(dict.fromkeys(shortened(text, _MOST_PIECES) for text in fit)):
        name = f"{CORPUS_PREFIX}{entry.id}:{number}"
        yield TextPair(
            id=name, text=text, grades=grades, thoughts=_alternatives([entry], known, name)
        )


def _too_short(text: str, entry: datasets.Weakness) -> bool:
    """Whether a text is neither a name nor long enough for a sentence."""
    return text not in entry.other_names and count_pieces(text) < _LEAST_PIECES
