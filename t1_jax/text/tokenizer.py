"""`T1Tokenizer` encodes prompts: special tokens come from templates only, never from user text.

It wraps the `tokenizers` object of a checkpoint; `t1_jax.hub` reads and writes checkpoints.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer

from t1_jax.errors import ConfigError, DataError, UnsupportedError, WeightsError

_CANDIDATES = "{candidates}"


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptTokens:
    """Tokens of a prompt or of a whole row.

    Attributes:
        ids: token ids, int32.
        truncated: whether the text was truncated.
    """

    ids: Int[np.ndarray, " L"]
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class TemplateParts:
    """A template with its instruction, split at `{text}`.

    Attributes:
        head_ids: ids up to and including the last special token before `{text}`.
        prefix_pieces: plain text between that token and `{text}`, split at `{candidates}`;
            tokenized together with the text, because a token may span the boundary.
        suffix_pieces: plain text after `{text}`, up to the next special token; likewise.
        tail_ids: ids from the first special token after `{text}`.
    """

    head_ids: tuple[int, ...]
    prefix_pieces: tuple[str, ...]
    suffix_pieces: tuple[str, ...]
    tail_ids: tuple[int, ...]

    @property
    def text_prefix(self) -> str:
        """Plain text before `{text}`, without candidates."""
        return "".join(self.prefix_pieces)

    @property
    def text_suffix(self) -> str:
        """Plain text after `{text}`, without candidates."""
        return "".join(self.suffix_pieces)


class T1Tokenizer:
    """A tokenizer with `<emb_token>` that encodes user text without special tokens.

    A second copy of the tokenizer, without special tokens, encodes instructions, queries, documents
    and given thoughts, so `<|im_start|>` or `<emb_token>` in them are plain text. Only templates
    and `append_emb_token` add special tokens. Added tokens that are not special are recognized
    everywhere, as in the checkpoint's tokenizer.

    Attributes:
        tokenizer: the checkpoint's tokenizer.
        emb_token_id: id of `<emb_token>`.
        eos_ids: ids that end generation.
        pad_id: id of the padding token.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, emb_token_id: int, eos_ids: Collection[int], pad_id: int
    ) -> None:
        special = {
            token.content: number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special or number == emb_token_id
        }
        if emb_token_id not in special.values():
            raise WeightsError(
                f"<emb_token> with id {emb_token_id} is not an added token of the tokenizer",
                hint="import the model again, which adds <emb_token>",
            )
        if emb_token_id in eos_ids or emb_token_id == pad_id:
            raise WeightsError(
                f"<emb_token> (id {emb_token_id}) must not be an end or padding token"
            )
        self.tokenizer = tokenizer
        self.emb_token_id = emb_token_id
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self._special = special
        longest_first = sorted(special, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._plain = _without_tokens(tokenizer, special)
        self._parts: dict[tuple[str, str], TemplateParts] = {}

    @property
    def vocab_size(self) -> int:
        """Number of ids, including added tokens."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode_prompts(
        self,
        template: str,
        *,
        instruction: str,
        texts: Sequence[str],
        max_tokens: int,
        names: Sequence[str] | None = None,
        candidates: Sequence[str] | None = None,
    ) -> list[PromptTokens]:
        """One prompt per text; texts are truncated to `max_tokens`, templates never.

        The tokens equal those of the checkpoint's tokenizer for the rendered prompt, unless the
        text or the instruction contains special tokens.

        A template has special tokens, text, `{text}` once and `{instruction}` any number of times,
        and counts toward `max_tokens`. `names` are those of the texts in errors, as `query 'q17'`.
        `candidates` replace `{candidates}`, one text for each prompt; their tokens are in addition
        to `max_tokens`.

        Raises:
            DataError: a text is empty or not valid Unicode.
            ConfigError: the template does not match this tokenizer, or exceeds `max_tokens`.
        """
        names = names or [f"text {number}" for number in range(len(texts))]
        parts = self.split_template(template, instruction)
        for name, text in zip(names, texts, strict=True):
            _check_unicode(text, name)
            if not text.strip():
                raise DataError(f"{name} is empty", hint="remove it, or give it a text")
        shown = [""] * len(texts) if candidates is None else list(candidates)
        prefixes, suffixes = (
            [block.join(pieces) for block in shown]
            for pieces in (parts.prefix_pieces, parts.suffix_pieces)
        )
        affixed = [
            prefix + text + suffix
            for prefix, text, suffix in zip(prefixes, texts, suffixes, strict=True)
        ]
        added = [0] * len(texts)
        if candidates is not None:
            added = [len(encoding.ids) for encoding in self._encode_plain(shown, names)]
        room = max_tokens - len(parts.head_ids) - len(parts.tail_ids)
        prompts = []
        for row, (text, encoding) in enumerate(
            zip(texts, self._encode_plain(affixed, names), strict=True)
        ):
            start, max_ids = len(prefixes[row]), room + added[row]
            ids, truncated = _truncate(encoding, start, start + len(text), max_ids)
            if len(ids) > max_ids:
                raise ConfigError(
                    f"the prompt has {len(ids) + max_tokens - room} tokens without any text, "
                    f"but only {max_tokens} are allowed",
                    hint="allow more tokens, or shorten the prompt preset",
                )
            row = np.array([*parts.head_ids, *ids, *parts.tail_ids], dtype=np.int32)
            prompts.append(PromptTokens(ids=row, truncated=truncated))
        return prompts

    def truncate_texts(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Each text, or its beginning if it has more than `max_tokens` tokens."""
        names = ["a title"] * len(texts)
        for text, name in zip(texts, names, strict=True):
            _check_unicode(text, name)
        return [
            text if len(encoding.ids) <= max_tokens else text[: encoding.offsets[max_tokens - 1][1]]
            for text, encoding in zip(texts, self._encode_plain(texts, names), strict=True)
        ]

    def encode_thought(self, text: str) -> Int[np.ndarray, " L"]:
        """Token ids of a user-supplied thought; special tokens in it become plain text."""
        (ids,) = self.encode_thoughts([text])
        return ids

    def encode_thoughts(self, texts: Sequence[str]) -> list[Int[np.ndarray, " _"]]:
        """Token ids of user-supplied thoughts, as `encode_thought` gives them, in one batch."""
        names = ["thought"] * len(texts)
        for text, name in zip(texts, names, strict=True):
            _check_unicode(text, name)
        encodings = self._encode_plain(texts, names)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def append_emb_token(
        self, prompt: PromptTokens, thought: Int[np.ndarray, " L"] | Sequence[int] = ()
    ) -> PromptTokens:
        """Prompt, thought and `<emb_token>` as one row.

        Raises:
            DataError: the prompt or the thought already contains `<emb_token>`.
        """
        ids = np.concatenate(
            [prompt.ids, np.asarray(thought, np.int32), np.array([self.emb_token_id], np.int32)]
        )
        if (count := int((ids == self.emb_token_id).sum())) != 1:
            raise DataError(f"a row must contain <emb_token> exactly once, got {count}")
        return PromptTokens(ids=ids, truncated=prompt.truncated)

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " L"]) -> str:
        """The text of `ids`, including special tokens."""
        return self.tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)

    def decode_thought(self, ids: Int[np.ndarray, " L"]) -> str:
        """The text of a thought, without `<emb_token>` and end of text."""
        ends = {self.emb_token_id, *self.eos_ids}
        return self.decode([token for token in ids.tolist() if token not in ends])

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens, including `<emb_token>`."""
        added = self.tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def split_template(self, template: str, instruction: str) -> TemplateParts:
        """The template with its instruction, split at `{text}`; cached.

        Raises:
            ConfigError: the template does not match this tokenizer.
        """
        if (template, instruction) not in self._parts:
            _check_unicode(instruction, "the instruction")
            self._check_template(template)
            self._parts[template, instruction] = self._split(template, instruction)
        return self._parts[template, instruction]

    def _split(self, template: str, instruction: str) -> TemplateParts:
        if template.count("{text}") != 1:
            raise ConfigError(f"a template must contain {{text}} exactly once, got {template!r}")
        before, after = template.split("{text}")
        *_, prefix = self._special_pattern.split(before)
        suffix, *_ = self._special_pattern.split(after)
        if _CANDIDATES in template and _CANDIDATES not in prefix + suffix:
            raise ConfigError(
                f"a template must have no special token between {{text}} and {_CANDIDATES}, got "
                f"{template!r}"
            )
        prefix_pieces, suffix_pieces = (
            tuple(piece.replace("{instruction}", instruction) for piece in text.split(_CANDIDATES))
            for text in (prefix, suffix)
        )
        return TemplateParts(
            head_ids=self._encode_template(before.removesuffix(prefix), instruction),
            prefix_pieces=prefix_pieces,
            suffix_pieces=suffix_pieces,
            tail_ids=self._encode_template(after.removeprefix(suffix), instruction),
        )

    def _encode_template(self, part: str, instruction: str) -> tuple[int, ...]:
        """Ids of a part of a template: special tokens, and the text between them."""
        ids: list[int] = []
        for piece in self._special_pattern.split(part):
            if piece in self._special:
                ids.append(self._special[piece])
            else:
                text = piece.replace("{instruction}", instruction)
                ids.extend(self._encode_plain([text], ["the instruction"])[0].ids)
        return tuple(ids)

    def _encode_plain(self, texts: Sequence[str], names: Sequence[str]) -> list[Encoding]:
        encodings = self._plain.encode_batch(list(texts), add_special_tokens=False)
        special = np.fromiter(self._special.values(), np.int32)
        for encoding, name in zip(encodings, names, strict=True):
            if np.isin(encoding.ids, special).any():
                raise UnsupportedError(f"this tokenizer reads a special token in {name}")
        return encodings

    def _check_template(self, template: str) -> None:
        """Raises unless encoding in parts equals encoding the whole template."""
        text = "".join(self._special_pattern.split(template)[::2])
        names = re.findall(r"<\|[^|>]*\|>", text)
        if unknown := [name for name in names if self.tokenizer.token_to_id(name) is None]:
            raise ConfigError(
                f"the prompt preset contains {unknown[0]}, which is unknown to this model's "
                "tokenizer",
                hint="choose the preset for the model's chat format: t1 (ChatML) or t1-llama3",
            )
        sample = template.replace("{text}", "a text")
        in_parts = self._encode_template(sample, "an instruction")
        whole = sample.replace("{instruction}", "an instruction")
        if list(in_parts) != self.tokenizer.encode(whole, add_special_tokens=False).ids:
            raise UnsupportedError(
                "this tokenizer encodes a text differently after a special token, so prompts "
                "cannot be encoded in parts",
                hint="use a byte-level tokenizer such as those of SmolLM2, Qwen and Llama 3",
            )


def _without_tokens(tokenizer: Tokenizer, special: Collection[str]) -> Tokenizer:
    """A copy without the `special` tokens, post-processing, truncation and padding."""
    state = json.loads(tokenizer.to_str())
    others = [token for token in state["added_tokens"] if token["content"] not in special]
    state |= {"added_tokens": others, "post_processor": None, "truncation": None, "padding": None}
    # tokenizers renumbers added tokens that are not in the vocabulary.
    state["model"]["vocab"] |= {token["content"]: token["id"] for token in others}
    return Tokenizer.from_str(json.dumps(state))


def _check_unicode(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{name} is not valid Unicode: a lone surrogate at character {error.start}",
            hint="write the text again as UTF-8",
        ) from error


def _truncate(encoding: Encoding, start: int, stop: int, max_ids: int) -> tuple[list[int], bool]:
    """The ids, without the last tokens of the text if there are more than `max_ids`.

    Characters `start` to `stop` are the text; tokens that extend beyond it are kept. Truncation may
    split the bytes of a character, as in every library that truncates tokens, so that the exported
    document side gives the same rows.
    """
    ids = encoding.ids
    excess = len(ids) - max_ids
    inside = [i for i, (a, b) in enumerate(encoding.offsets) if start <= a and b <= stop]
    if excess <= 0 or not inside:
        return ids, False
    last = inside[-1] + 1
    cut = max(last - excess, inside[0])
    return ids[:cut] + ids[last:], True
