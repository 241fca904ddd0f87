"""Template thoughts for `ruff`: what the code does, what is wrong, the rule's name in words.

Splits share no rules, so most words describe the code, which generalizes to unseen rules.
"""

import re
from collections.abc import Iterator, Sequence

from t1_jax.retrieval import Collection, datasets
from t1_jax.train.data import CORPUS_PREFIX
from t1_jax.train.thoughts.corpus_pairs import TextPair, merge_pairs
from t1_jax.train.thoughts.wording import (
    capitalized,
    count_pieces,
    one_line,
    pick,
    plain_words,
    sentences,
    shortened,
)

_DOES, _WHY = "What it does", "Why is this bad?"
_CHECKS_FOR = re.compile(
    r"^(?:This rule )?(?:(?:checks|looks|searches) for|identifies|detects|finds|flags) (?:the )?"
    r"(?:(?:usages?|uses?|presence|existence|instances?|occurrences?|cases) "
    r"(?:of|where|in which) )?",
    re.IGNORECASE,
)
_CHECKS_THAT = re.compile(r"^(?:Checks|Enforces|Ensures) (?:that|whether|if) ", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
_SHORT, _MEDIUM, _LONG = 16, 34, 56
_NAMES = ("Rule: {}.", "{}.", "The issue: {}.")
_CODE = ("The code has {}.", "In the code: {}.", "{}.")
_REASONS = ("Wrong because: {}.", "{}.", "The problem: {}.")
_LEAST_PIECES, _TELLING_PIECES, _MOST_PIECES, _MOST_WORDS_OF_CODE = 3, 6, 110, 3
_EVERYWHERE = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by code def for from if import in is it not of on or python return "
        "self that the this to use with",
    )
)


def ruff_thoughts(
    rules: Sequence[datasets.Rule], collection: Collection
) -> dict[str, tuple[str, ...]]:
    """Query id -> alternative thoughts, from the rule that the query violates.

    Usually four: the rule's name in words, what the code does, name and reason, and all of it after
    the identifiers that code and rule share.
    """
    known = {rule.name: rule for rule in rules}
    return {
        query.id: _alternatives(known[gold.id], query.text, f"{collection.name} {query.id}")
        for query in collection.queries
        for gold in collection.gold_documents(query.id)[:1]
    }


def ruff_pairs(rules: Sequence[datasets.Rule]) -> list[TextPair]:
    """Prose about a rule as queries: what it does, why it is bad, and Ruff's messages.

    They contain no code, since the code of a rule is a query, perhaps of another split.
    """
    return merge_pairs(pair for rule in rules for pair in _pairs_of(rule))


def _alternatives(rule: datasets.Rule, code: str, seed: str) -> tuple[str, ...]:
    does, why = _does(rule), _why(rule)
    name = rule.title
    thoughts = [
        capitalized(pick(_NAMES, f"{seed} name").format(name)),
        f"{_the_code(does, seed, _MEDIUM - _SHORT)} Rule: {name}.",
        f"{capitalized(name)}: {shortened(why, _MEDIUM - 10)}.",
        _whole(rule, code, seed),
    ]
    return tuple(dict.fromkeys(map(one_line, thoughts)))


def _whole(rule: datasets.Rule, code: str, seed: str) -> str:
    shared = _shared_words(rule, code)
    # Identifiers keep their case, so only what follows no identifier gets a capital.
    head = f"{', '.join(shared)}: {shortened(_does(rule), _MEDIUM - _SHORT)}." if shared else ""
    head = head or _the_code(_does(rule), seed, _MEDIUM - _SHORT)
    tail = f"Rule: {rule.title}."
    room = _LONG - count_pieces(head) - count_pieces(tail) - 4
    message = _message(rule) or _why(rule)
    reason = pick(_REASONS, f"{seed} reason").format(shortened(message, max(room, 8)))
    return f"{head} {reason} {tail}"


def _the_code(does: str, seed: str, pieces: int) -> str:
    return capitalized(pick(_CODE, f"{seed} code").format(shortened(does, pieces)))


def _does(rule: datasets.Rule) -> str:
    """What a rule checks, without phrases that all rules share."""
    first = _first_line(rule)
    if _CHECKS_THAT.match(first):
        return f"broken: {_CHECKS_THAT.sub('', first)}"
    return _CHECKS_FOR.sub("", first)


def _first_line(rule: datasets.Rule) -> str:
    return sentences(plain_words(rule.prose(_DOES)))[0].rstrip(".")


def _why(rule: datasets.Rule) -> str:
    """The first reason that is long enough to be specific."""
    reasons = [reason.rstrip(".") for reason in sentences(plain_words(rule.prose(_WHY)))]
    telling = [reason for reason in reasons if count_pieces(reason) > _TELLING_PIECES]
    return (telling or reasons or [rule.title])[0]


def _message(rule: datasets.Rule) -> str:
    """Ruff's message without placeholders; empty if little is left."""
    for message in rule.messages:
        bare = plain_words(_PLACEHOLDER.sub("", message))
        bare = one_line(re.sub(r"\"\"|''|\(\)|\s+(?=[,;:]|\.(?:\s|$))", "", bare))
        if count_pieces(bare) >= _TELLING_PIECES:
            return bare
    return ""


def _shared_words(rule: datasets.Rule, code: str) -> list[str]:
    """Identifiers of the code that occur in the rule's text, longest first."""
    prose = set(_IDENTIFIER.findall(plain_words(f"{rule.prose(_DOES)} {rule.prose(_WHY)}")))
    rule_words = {word.rstrip(".") for word in prose} | {
        part for word in prose if "." in word for part in word.split(".")
    }
    shared = dict.fromkeys(
        word
        for word in _IDENTIFIER.findall(code)
        if word in rule_words and word.casefold() not in _EVERYWHERE and len(word) > 1
    )
    longest = sorted(shared, key=lambda word: -len(word))[:_MOST_WORDS_OF_CODE]
    return [word for word in longest if not any(word != o and word in o for o in longest)]


def _pairs_of(rule: datasets.Rule) -> Iterator[TextPair]:
    why = sentences(plain_words(rule.prose(_WHY)))
    texts = [
        _CHECKS_FOR.sub("", _CHECKS_THAT.sub("", _first_line(rule))),
        " ".join(why[:2]),
        *([" ".join(why[2:4])] if why[2:] else []),
        *(plain_words(_PLACEHOLDER.sub("x", message)) for message in rule.messages),
    ]
    fit = [shortened(text, _MOST_PIECES) for text in texts if count_pieces(text) >= _LEAST_PIECES]
    for number, text in enumerate(dict.fromkeys(fit)):
        name = f"{CORPUS_PREFIX}{rule.name}:{number}"
        yield TextPair(
            id=name, text=text, grades={rule.name: 1}, thoughts=_alternatives(rule, "", name)
        )
