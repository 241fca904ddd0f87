"""Tokenizes queries and documents with the prompts of a preset."""

from collections.abc import Sequence

from t1_jax.errors import ConfigError, DataError
from t1_jax.text.presets import PromptPreset
from t1_jax.text.tokenizer import PromptTokens, T1Tokenizer

CANDIDATE_TOKENS = 24
"""Most tokens of a candidate's title in a prompt."""


def tokenize_queries(
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    texts: Sequence[str],
    *,
    max_tokens: int,
    task: str | None = None,
    think: bool = True,
    names: Sequence[str] | None = None,
    candidates: Sequence[Sequence[str]] | None = None,
) -> list[PromptTokens]:
    """Query prompts up to the position of the thought; raises as `T1Tokenizer.encode_prompts`.

    With `think` the prompt asks for a thought. `T1Tokenizer.append_emb_token` adds the thought and
    `<emb_token>`. `task` is the name of the instruction in the preset. `candidates` are the titles
    that each prompt shows, as `candidate_titles` gives them, beyond `max_tokens`; a query without
    any has the prompt without candidates.

    Raises:
        ConfigError: candidates for a prompt without a thought, or for prompts that show none.
    """
    instruction = preset.instruction(task)
    if not candidates or not any(candidates):
        return tokenizer.encode_prompts(
            preset.query_template if think else preset.query_nothink_template,
            instruction=instruction,
            texts=texts,
            max_tokens=max_tokens,
            names=names,
        )
    if not think:
        raise ConfigError("candidates are shown to a model that thinks, and think is False")
    preset.require_candidates()
    if len(candidates) != len(texts):
        raise DataError(f"{len(texts)} queries but {len(candidates)} groups of candidates")
    prompts: dict[int, PromptTokens] = {}
    for template, is_shown in (
        (preset.query_candidates_template, True),
        (preset.query_template, False),
    ):
        rows = [row for row, titles in enumerate(candidates) if bool(titles) is is_shown]
        blocks = ["\n".join(candidates[row]) for row in rows]
        encoded = tokenizer.encode_prompts(
            template,
            instruction=instruction,
            texts=[texts[row] for row in rows],
            max_tokens=max_tokens,
            names=None if names is None else [names[row] for row in rows],
            candidates=blocks if is_shown else None,
        )
        prompts |= dict(zip(rows, encoded, strict=True))
    return [prompts[row] for row in range(len(texts))]


def candidate_titles(tokenizer: T1Tokenizer, texts: Sequence[str]) -> list[str]:
    """Titles as prompts show them: on one line, at most `CANDIDATE_TOKENS` tokens."""
    lines = [" ".join(text.split()) for text in texts]
    return [title.strip() for title in tokenizer.truncate_texts(lines, CANDIDATE_TOKENS)]


def append_thoughts(
    tokenizer: T1Tokenizer, prompts: Sequence[PromptTokens], thoughts: Sequence[str] | None
) -> list[PromptTokens]:
    """Complete rows of queries: prompt, user-supplied thought if any, `<emb_token>`.

    Raises:
        DataError: another number of thoughts than prompts.
    """
    if thoughts is None:
        return [tokenizer.append_emb_token(prompt) for prompt in prompts]
    if len(thoughts) != len(prompts):
        raise DataError(f"{len(prompts)} queries but {len(thoughts)} thoughts")
    return [
        tokenizer.append_emb_token(prompt, thought)
        for prompt, thought in zip(prompts, tokenizer.encode_thoughts(thoughts), strict=True)
    ]


def tokenize_documents(
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    texts: Sequence[str],
    *,
    max_tokens: int,
    task: str | None = None,
    names: Sequence[str] | None = None,
) -> list[PromptTokens]:
    """Document prompts with `<emb_token>`; raises as `T1Tokenizer.encode_prompts`.

    `max_tokens` includes `<emb_token>`: texts are truncated before it is appended.
    """
    prompts = tokenizer.encode_prompts(
        preset.document_template,
        instruction=preset.instruction(task),
        texts=texts,
        max_tokens=max_tokens - 1,
        names=names,
    )
    return [tokenizer.append_emb_token(prompt) for prompt in prompts]
