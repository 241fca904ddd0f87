"""Files of documents and queries: JSONL, tab-separated, and TREC's SGML and XML."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from t1_jax.retrieval.collection import SourceLocation, id_error, text_error
from t1_jax.retrieval.jsonl import Record, parse_record, read_lines
from t1_jax.retrieval.layouts.layout import plain_name
from t1_jax.retrieval.layouts.records import Entry, RawRecords, RecordFile

DOCUMENT_IDS = ("_id", "id", "docid")
DOCUMENT_TEXTS = ("text", "contents")
QUERY_IDS = ("_id", "id", "query_id", "qid")
QUERY_TEXTS = ("text", "query", "query_text")

MARKUP_SUFFIXES = (".xml", ".sgml", ".sgm", ".trec", ".txt")
"""Suffixes of files with tags; a `.txt` file may be tab-separated too."""

_TAG = re.compile(r"<[^>]*>")
_PREFIX = re.compile(r"\s*(?:Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


def document_file(path: Path) -> RecordFile[Entry]:
    """A file of documents.

    JSONL has the keys of BEIR (`_id`, `title`, `text`), FlagEmbedding (`id`), Tevatron (`docid`) or
    Anserini (`id`, `contents`). A `.tsv` file has id and text, separated by a tab. Other suffixes
    of `MARKUP_SUFFIXES` are TREC's `<DOC>` with `<DOCNO>`, `<TITLE>` or `<HEADLINE>`, and `<TEXT>`.
    Any other file is JSONL.
    """
    return _entry_file(path, document_entry, "doc", _markup_document)


def query_file(path: Path) -> RecordFile[Entry]:
    """A file of queries.

    JSONL has the keys of BEIR (`_id`, `text`), FlagEmbedding (`id`) or Tevatron (`query_id`,
    `query` or `query_text`). A `.tsv` file has id and text, separated by a tab. Other suffixes of
    `MARKUP_SUFFIXES` are TREC's `<top>` with `<num>` and `<title>`, or `<topic number="1">`.
    Any other file is JSONL.
    """
    return _entry_file(path, query_entry, "top(?:ic)?", _markup_query)


def _entry_file(
    path: Path,
    parse: Callable[[Record], Entry],
    tag: str,
    parse_markup: Callable[[SourceLocation, str], Entry],
) -> RecordFile[Entry]:
    suffix = Path(plain_name(path)).suffix.lower()
    if suffix == ".tsv" or (suffix == ".txt" and not _begins_with_tag(path)):
        return RecordFile(path=path, split=read_lines, parse=_tab_separated)
    if suffix in MARKUP_SUFFIXES:
        return RecordFile(path=path, split=lambda file: _elements(file, tag), parse=parse_markup)
    return RecordFile(
        path=path,
        split=read_lines,
        parse=lambda location, line: parse(parse_record(location, line)),
    )


def document_entry(record: Record) -> Entry:
    """The document of a JSON object; see `document_file`."""
    return Entry(
        location=record.location,
        id=record.id(_present(record, DOCUMENT_IDS)),
        title=record.optional_text("title"),
        text=record.nullable_text(_present(record, DOCUMENT_TEXTS)),
    )


def query_entry(record: Record) -> Entry:
    """The query of a JSON object; see `query_file`."""
    return Entry(
        location=record.location,
        id=record.id(_present(record, QUERY_IDS)),
        text=record.nullable_text(_present(record, QUERY_TEXTS)),
    )


def _present(record: Record, names: Sequence[str]) -> str:
    """The first name that the record has, otherwise the first of all."""
    return next((name for name in names if name in record.fields), names[0])


def _tab_separated(location: SourceLocation, line: str) -> Entry:
    fields = line.split("\t")
    if len(fields) != 2:
        raise location.error(f"expected id and text separated by a tab, found {len(fields)} fields")
    return _entry(location, fields[0], fields[1])


def _entry(location: SourceLocation, identifier: str, text: str, title: str = "") -> Entry:
    if problem := id_error(identifier):
        raise location.error(problem)
    for value in (text, title):
        if value.strip() and (problem := text_error(value)):
            raise location.error(problem)
    return Entry(location=location, id=identifier, text=text.strip() and text, title=title)


def _begins_with_tag(path: Path) -> bool:
    """Whether the first line that is not blank begins with a tag."""
    lines = (line.lstrip() for _, line in read_lines(path))
    return next((line for line in lines if line), "").startswith("<")


def _elements(path: Path, tag: str) -> RawRecords:
    """The elements of a name with their tags, each with the line where it begins.

    Raises:
        DataError: an element without its end.
    """
    element = re.compile(rf"<{tag}\b[^>]*>.*?</{tag}\s*>", re.IGNORECASE | re.DOTALL)
    start = re.compile(rf"<{tag}\b", re.IGNORECASE)
    end = re.compile(rf"</{tag}\s*>", re.IGNORECASE)
    begun: SourceLocation | None = None
    pending: list[str] = []
    for location, line in read_lines(path):
        rest = line
        while True:
            if begun is None:
                opening = start.search(rest)
                if opening is None:
                    break
                begun, rest = location, rest[opening.start() :]
            closing = end.search(rest)
            if closing is None:
                pending.append(rest)
                break
            pending.append(rest[: closing.end()])
            text = "\n".join(pending)
            if element.fullmatch(text) is None:
                raise begun.error("the tag of an element is not closed")
            yield begun, text
            begun, pending, rest = None, [], rest[closing.end() :]
    if begun is not None:
        raise begun.error("the element has no end", hint="the file may be truncated: get it again")


def _markup_document(location: SourceLocation, element: str) -> Entry:
    identifier = _field(element, "docno")
    if identifier is None:
        raise location.error("the document has no <DOCNO>")
    title = _field(element, "title", "headline") or ""
    texts = [_plain(match[1]) for match in _closed(element, "text")]
    if not texts:
        texts = [_plain(_without(element, "docno", "docid", "title", "headline"))]
    return _entry(location, identifier, "\n".join(filter(None, texts)), title)


def _markup_query(location: SourceLocation, element: str) -> Entry:
    attribute = re.match(r"<[^>]*\b(?:number|num|id)\s*=\s*[\"']([^\"']*)[\"']", element)
    identifier = _field(element, "num") if attribute is None else attribute[1].strip()
    if identifier is None:
        raise location.error('the topic has neither <num> nor the attribute number="..."')
    if re.fullmatch("0+[0-9]+", identifier):
        identifier = str(int(identifier))  # 051 of TREC's topics is 51 in its qrels
    text = _field(element, "title", "query")
    if text is None and attribute is not None:
        text = _plain(element)
    return _entry(location, identifier, text or "")


def _field(element: str, *names: str) -> str | None:
    """Text of the first of the named tags, up to the next tag; TREC's topics do not close them."""
    match = re.search(rf"<(?:{'|'.join(names)})\b[^>]*>([^<]*)", element, re.IGNORECASE)
    return None if match is None else _plain(_PREFIX.sub("", match[1], count=1))


def _closed(element: str, name: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"<{name}\b[^>]*>(.*?)</{name}\s*>", element, re.IGNORECASE | re.DOTALL)


def _without(element: str, *names: str) -> str:
    for name in names:
        for match in _closed(element, name):
            element = element.replace(match[0], " ")
    return element


def _plain(text: str) -> str:
    """The text without tags, with white space collapsed."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())
