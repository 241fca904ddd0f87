"""The collection `cwe`: from a real vulnerability to the class of weakness behind it.

Documents are the weaknesses of MITRE's catalog that are not deprecated. Queries are the
descriptions of real vulnerabilities that the catalog lists as observed examples. A weakness has
relevance label 2 for its own examples, and its parents in view 1000 have label 1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from t1_jax.errors import DataError
from t1_jax.files import sha256_of
from t1_jax.retrieval.collection import Collection, Document, Query
from t1_jax.retrieval.datasets.splits import LabeledQuery, group_keys, split_collection

ATTRIBUTION = (
    "Copyright © 2006–2024, The MITRE Corporation. CWE, CWSS, CWRAF, and the CWE logo are "
    "trademarks of The MITRE Corporation."
)
LICENSE = (
    "CWE Terms of Use: MITRE hereby grants you a non-exclusive, royalty-free license to use CWE "
    "for research, development, and commercial purposes. Any copy you make for such purposes is "
    "authorized on the condition that you reproduce MITRE's copyright designation and this license "
    "in any such copy. DISCLAIMERS: All documents and the information contained in the CWE are "
    'provided on an "as is" basis and the contributor, the organization he/she represents or is '
    "sponsored by (if any), The MITRE Corporation, its board of trustees, officers, agents, and "
    "employees, disclaim all warranties, express or implied, including but not limited to any "
    "warranty that the use of the information therein will not infringe any rights or any implied "
    "warranties of merchantability or fitness for a particular purpose and noninfringement."
)

_RESEARCH_VIEW = "1000"
_MINIMUM_WORDS = 5
_NUMBER = r"\b(?:CWE|CVE)-\d+(?:-\d+)?\b"
_NUMBERS_IN_BRACKETS = re.compile(rf"\s*\((?:{_NUMBER}[\s,;/&]*(?:(?:and|or)\s+)?)+\)")


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """A common consequence: affected security properties, impacts, and a note (may be empty)."""

    scopes: tuple[str, ...]
    impacts: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class ObservedExample:
    """A real vulnerability: its reference (usually a CVE id) and its description."""

    reference: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Weakness:
    """One entry of the catalog.

    Attributes:
        id: "CWE-79".
        name: title.
        status: "Stable", "Draft", "Incomplete" or "Deprecated".
        description: one or two sentences.
        extended_description: further paragraphs; may be empty.
        parents: ids of its `ChildOf` relations in view 1000 (research concepts).
        consequences: common consequences.
        examples: real vulnerabilities caused by this weakness.
        other_names: alternate terms, with their explanation if given, and names in other
            taxonomies.
        illustrations: texts around the demonstrative code examples, without the code.
        mitigations: descriptions of potential mitigations.
    """

    id: str
    name: str
    status: str
    description: str
    extended_description: str
    parents: tuple[str, ...]
    consequences: tuple[Consequence, ...]
    examples: tuple[ObservedExample, ...]
    other_names: tuple[str, ...] = ()
    illustrations: tuple[str, ...] = ()
    mitigations: tuple[str, ...] = ()


def parse_cwe(xml: Path) -> tuple[Weakness, ...]:
    """Reads MITRE's catalog, such as `cwec_v4.14.xml`, including deprecated entries.

    Raises:
        DataError: the file cannot be read, is malformed, or is not a CWE catalog.
    """
    try:
        root = ElementTree.parse(xml).getroot()
    except OSError as error:
        raise DataError(f"{xml} cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{xml}:{error.position[0]}: malformed XML: {error}") from error
    weaknesses = tuple(_weakness(entry) for entry in root.iterfind("{*}Weaknesses/{*}Weakness"))
    if not weaknesses:
        raise DataError(f"{xml} is not a CWE catalog: it has no Weakness")
    return weaknesses


def build_cwe(xml: Path) -> dict[str, Collection]:
    """The collection, split so that no text and no vulnerability occurs in two splits.

    Raises:
        DataError: see `parse_cwe`.
    """
    weaknesses = [entry for entry in parse_cwe(xml) if entry.status != "Deprecated"]
    documents = (
        Document(
            id=entry.id,
            title=entry.name,
            text=f"{entry.description} {entry.extended_description}".strip(),
        )
        for entry in weaknesses
    )
    metadata = {
        "description": "a real vulnerability -> its weakness class",
        "source": f"{xml.name}, https://cwe.mitre.org",
        "source_sha256": sha256_of(xml),
        "license": LICENSE,
        "attribution": ATTRIBUTION,
    }
    return split_collection("cwe", documents, _labeled_queries(weaknesses), metadata)


def query_text(description: str) -> str:
    """The description without CWE and CVE numbers, which would reveal the answer."""
    return _without_numbers(_NUMBERS_IN_BRACKETS.sub("", description))


def _without_numbers(text: str) -> str:
    return " ".join(re.sub(_NUMBER, "", text).split())


def _labeled_queries(weaknesses: list[Weakness]) -> Iterator[LabeledQuery]:
    """One query for each distinct description of each vulnerability.

    Descriptions are compared, and their words counted, before empty brackets are removed.
    """
    parents = _current_parents(weaknesses)
    texts: dict[tuple[str, str], str] = {}
    labels: dict[tuple[str, str], dict[str, int]] = {}
    for entry in weaknesses:
        for example in entry.examples:
            key = (example.reference, _without_numbers(example.description))
            if len(key[1].split()) >= _MINIMUM_WORDS:
                texts[key] = query_text(example.description)
                labels.setdefault(key, {})[entry.id] = 2
    keys = group_keys(
        (f"cve {reference}", f"text {_words_only(text)}") for (reference, _), text in texts.items()
    )
    counts: dict[str, int] = {}
    for (reference, description), text in texts.items():
        counts[reference] = number = counts.get(reference, 0) + 1
        direct = labels[reference, description]
        inherited = {parent: 1 for entry_id in direct for parent in parents[entry_id]}
        yield LabeledQuery(
            query=Query(id=reference if number == 1 else f"{reference}#{number}", text=text),
            labels=inherited | direct,
            group_key=keys[f"cve {reference}"],
        )


def _current_parents(weaknesses: list[Weakness]) -> dict[str, list[str]]:
    current = {entry.id for entry in weaknesses}
    return {
        entry.id: [parent for parent in entry.parents if parent in current] for entry in weaknesses
    }


def _words_only(text: str) -> str:
    """The words in lower case; texts are duplicates if these are equal."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _weakness(entry: ElementTree.Element) -> Weakness:
    return Weakness(
        id=f"CWE-{entry.attrib['ID']}",
        name=entry.attrib["Name"],
        status=entry.attrib["Status"],
        description=_text(entry, "{*}Description"),
        extended_description=_text(entry, "{*}Extended_Description"),
        parents=tuple(
            f"CWE-{relation.attrib['CWE_ID']}"
            for relation in entry.iterfind("{*}Related_Weaknesses/{*}Related_Weakness")
            if relation.attrib["Nature"] == "ChildOf"
            and relation.attrib["View_ID"] == _RESEARCH_VIEW
        ),
        consequences=tuple(
            Consequence(
                scopes=tuple(_words(scope) for scope in consequence.iterfind("{*}Scope")),
                impacts=tuple(_words(impact) for impact in consequence.iterfind("{*}Impact")),
                note=_text(consequence, "{*}Note"),
            )
            for consequence in entry.iterfind("{*}Common_Consequences/{*}Consequence")
        ),
        examples=tuple(
            ObservedExample(
                reference=_text(example, "{*}Reference"),
                description=_text(example, "{*}Description"),
            )
            for example in entry.iterfind("{*}Observed_Examples/{*}Observed_Example")
        ),
        other_names=_other_names(entry),
        illustrations=tuple(
            _words(part)
            for example in entry.iterfind("{*}Demonstrative_Examples/{*}Demonstrative_Example")
            for part in example
            if part.tag.endswith(("}Intro_Text", "}Body_Text"))
        ),
        mitigations=tuple(
            _words(text)
            for text in entry.iterfind("{*}Potential_Mitigations/{*}Mitigation/{*}Description")
        ),
    )


def _other_names(entry: ElementTree.Element) -> tuple[str, ...]:
    terms = [
        ": ".join(filter(None, (_text(term, "{*}Term"), _text(term, "{*}Description"))))
        for term in entry.iterfind("{*}Alternate_Terms/{*}Alternate_Term")
    ]
    foreign = [
        _words(name)
        for name in entry.iterfind("{*}Taxonomy_Mappings/{*}Taxonomy_Mapping/{*}Entry_Name")
    ]
    return tuple(dict.fromkeys([*terms, *foreign]))


def _text(parent: ElementTree.Element, path: str) -> str:
    element = parent.find(path)
    return "" if element is None else _words(element)


def _words(element: ElementTree.Element) -> str:
    """All text of an element on one line; nested markup separates words."""
    return " ".join(" ".join(element.itertext()).split())
