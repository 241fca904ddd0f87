"""Texts to tokens and back: templates keep their special tokens, users' text never gains one."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer

from t1_jax.errors import ConfigError, DataError, UnsupportedError, WeightsError


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptTokens:
    """One row of tokens.

    Attributes:
        ids: token ids, int32.
        truncated: whether the end of the user's text was cut to fit.
    """

    ids: Int[np.ndarray, " L"]
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class BoundTemplate:
    """A template with its instruction in place: tokens before and after the run that holds {text}.

    Attributes:
        head: tokens up to and with the last special token before {text}.
        left: the words between it and {text}; encoded together with the text, because a token
            may span the seam.
        right: the words after {text}, likewise.
        tail: tokens from the first special token after {text} on.
    """

    head: tuple[int, ...]
    left: str
    right: str
    tail: tuple[int, ...]


class T1Tokenizer:
    """A fast tokenizer that knows `<emb_token>` and reads users' text as nothing but text.

    Instructions, queries, documents and thoughts given as text are encoded by a second copy of the
    tokenizer that has no special tokens, so `<|im_start|>` or `<emb_token>` inside them become
    plain characters. Only templates and `close` place special tokens. Words that were added to the
    vocabulary without being special are read everywhere, as the checkpoint's own tokenizer does.

    Attributes:
        tokenizer: the tokenizer as the checkpoint has it.
        emb_token_id: id of `<emb_token>`.
        eos_ids: ids that end a generation.
        pad_id: id that fills up batches.
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
                f"id {emb_token_id} for <emb_token> is none of the tokenizer's added tokens",
                hint="import the model again, which gives it an <emb_token>",
            )
        if emb_token_id in eos_ids or emb_token_id == pad_id:
            raise WeightsError(f"<emb_token> (id {emb_token_id}) must not also end or pad a text")
        self.tokenizer = tokenizer
        self.emb_token_id = emb_token_id
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self._special = special
        longest_first = sorted(special, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._plain = _without_tokens(tokenizer, special)
        self._bound: dict[tuple[str, str], BoundTemplate] = {}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode_prompt(
        self, template: str, *, instruction: str, text: str, max_tokens: int, item: str = "text"
    ) -> PromptTokens:
        """One prompt; see `encode_prompts`."""
        return self.encode_prompts(
            template, instruction=instruction, texts=[text], max_tokens=max_tokens, items=[item]
        )[0]

    def encode_prompts(
        self,
        template: str,
        *,
        instruction: str,
        texts: Sequence[str],
        max_tokens: int,
        items: Sequence[str] | None = None,
    ) -> list[PromptTokens]:
        """The template around each text, at most `max_tokens` long; only the text is ever cut.

        Tokens equal those of the plain tokenizer on the rendered prompt wherever neither the text
        nor the instruction contains special tokens.

        Args:
            template: special tokens, words, `{text}` once and, anywhere, `{instruction}`.
            instruction: what stands for `{instruction}`.
            texts: what stands for `{text}`, one prompt each.
            max_tokens: the most tokens a prompt may have, template included.
            items: what to call each text in an error, for example `query 'q17'`.

        Raises:
            DataError: a text is empty or not valid Unicode.
            ConfigError: the template does not fit this tokenizer, or not into `max_tokens`.
        """
        names = items or [f"text {number}" for number in range(len(texts))]
        bound = self.bind(template, instruction)
        for name, text in zip(names, texts, strict=True):
            _refuse_unreadable(text, name)
            if not text.strip():
                raise DataError(f"{name} is empty", hint="remove it, or give it a text")
        runs = [bound.left + text + bound.right for text in texts]
        budget = max_tokens - len(bound.head) - len(bound.tail)
        prompts = []
        for text, run in zip(texts, self._encode_plain(runs, names), strict=True):
            start = len(bound.left)
            ids, truncated = _cut(run, start, start + len(text), budget)
            if len(ids) > budget:
                raise ConfigError(
                    f"the prompt takes {len(ids) + max_tokens - budget} tokens without any text, "
                    f"but only {max_tokens} are allowed",
                    hint="allow more tokens, or shorten the prompt preset",
                )
            row = np.array([*bound.head, *ids, *bound.tail], dtype=np.int32)
            prompts.append(PromptTokens(ids=row, truncated=truncated))
        return prompts

    def encode_thought(self, text: str) -> Int[np.ndarray, " L"]:
        """The tokens of a thought that is given rather than sampled; special tokens become text."""
        _refuse_unreadable(text, "thought")
        return np.array(self._encode_plain([text], ["thought"])[0].ids, dtype=np.int32)

    def close(
        self, prompt: PromptTokens, thought: Int[np.ndarray, " L"] | Sequence[int] = ()
    ) -> PromptTokens:
        """The prompt, the thought, then `<emb_token>`, the only one in the row.

        Raises:
            DataError: the prompt or the thought holds an `<emb_token>` of its own.
        """
        ids = np.concatenate(
            [prompt.ids, np.asarray(thought, np.int32), np.array([self.emb_token_id], np.int32)]
        )
        if (found := int((ids == self.emb_token_id).sum())) != 1:
            raise DataError(f"a row must hold <emb_token> exactly once, this one has {found}")
        return PromptTokens(ids=ids, truncated=prompt.truncated)

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " L"]) -> str:
        """The text of `ids`, special tokens written out."""
        return self.tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens, `<emb_token>` included."""
        added = self.tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def bind(self, template: str, instruction: str) -> BoundTemplate:
        """The template with its instruction in place, taken apart around `{text}`.

        Raises:
            ConfigError: the template does not fit this tokenizer.
        """
        if (template, instruction) not in self._bound:
            _refuse_unreadable(instruction, "the instruction")
            self._refuse_foreign_template(template)
            self._bound[template, instruction] = self._split(template, instruction)
        return self._bound[template, instruction]

    def _split(self, template: str, instruction: str) -> BoundTemplate:
        """Encodes all of the template but the run around `{text}`."""
        if template.count("{text}") != 1:
            raise ConfigError(f"a template must hold {{text}} exactly once, got {template!r}")
        before, after = template.split("{text}")
        *_, left = self._special_pattern.split(before)
        right, *_ = self._special_pattern.split(after)
        return BoundTemplate(
            head=self._encode_template(before.removesuffix(left), instruction),
            left=left.replace("{instruction}", instruction),
            right=right.replace("{instruction}", instruction),
            tail=self._encode_template(after.removeprefix(right), instruction),
        )

    def _encode_template(self, part: str, instruction: str) -> tuple[int, ...]:
        """Special tokens by name, and each run of words between them as one text."""
        ids: list[int] = []
        for piece in self._special_pattern.split(part):
            if piece in self._special:
                ids.append(self._special[piece])
            else:
                words = piece.replace("{instruction}", instruction)
                ids.extend(self._encode_plain([words], ["the instruction"])[0].ids)
        return tuple(ids)

    def _encode_plain(self, texts: Sequence[str], items: Sequence[str]) -> list[Encoding]:
        encodings = self._plain.encode_batch(list(texts), add_special_tokens=False)
        special = np.fromiter(self._special.values(), np.int32)
        for encoding, item in zip(encodings, items, strict=True):
            if np.isin(encoding.ids, special).any():
                raise UnsupportedError(f"this tokenizer reads a special token in {item}")
        return encodings

    def _refuse_foreign_template(self, template: str) -> None:
        """Raises unless piecewise encoding equals the tokenizer's own, special tokens and all."""
        words = "".join(self._special_pattern.split(template)[::2])
        names = re.findall(r"<\|[^|>]*\|>", words)
        if foreign := [name for name in names if self.tokenizer.token_to_id(name) is None]:
            raise ConfigError(
                f"the prompt preset holds {foreign[0]}, which this model's tokenizer does not know",
                hint="choose the preset for the model's chat format: t1 (ChatML) or t1-llama3",
            )
        sample = template.replace("{text}", "a text")
        ours = self._encode_template(sample, "an instruction")
        whole = sample.replace("{instruction}", "an instruction")
        if list(ours) != self.tokenizer.encode(whole, add_special_tokens=False).ids:
            raise UnsupportedError(
                "this tokenizer treats a text differently after a special token, so prompts cannot "
                "be put together piece by piece",
                hint="use a byte-level tokenizer such as those of SmolLM2, Qwen and Llama 3",
            )


def _without_tokens(tokenizer: Tokenizer, special: Collection[str]) -> Tokenizer:
    """A copy that does not look `special` tokens up in a text, and does not add, cut or pad."""
    state = json.loads(tokenizer.to_str())
    others = [token for token in state["added_tokens"] if token["content"] not in special]
    state |= {"added_tokens": others, "post_processor": None, "truncation": None, "padding": None}
    # The ids of added tokens are counted on, unless the model's own vocabulary has them.
    state["model"]["vocab"] |= {token["content"]: token["id"] for token in others}
    return Tokenizer.from_str(json.dumps(state))


def _refuse_unreadable(text: str, item: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{item} is not valid Unicode: a lone surrogate at character {error.start}",
            hint="write the text again as UTF-8",
        ) from error


def _cut(run: Encoding, start: int, stop: int, budget: int) -> tuple[list[int], bool]:
    """The run's ids without as many of the text's last tokens as `max_thought_tokens` demands.

    Characters `start` to `stop` of the run are the text; tokens that reach outside it stay. A cut
    may fall between the tokens of one character, as in every library that truncates tokens, so
    that the exported document side makes the same rows.
    """
    ids = run.ids
    excess = len(ids) - budget
    inside = [i for i, (a, b) in enumerate(run.offsets) if start <= a and b <= stop]
    if excess <= 0 or not inside:
        return ids, False
    last = inside[-1] + 1
    cut = max(last - excess, inside[0])
    return ids[:cut] + ids[last:], True
