"""Tokenizes queries and documents with the prompts of a preset."""

from collections.abc import Sequence

from t1_jax.errors import DataError
from t1_jax.text.presets import PromptPreset
from t1_jax.text.tokenizer import PromptTokens, T1Tokenizer


def tokenize_queries(
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    texts: Sequence[str],
    *,
    max_tokens: int,
    task: str | None = None,
    think: bool = True,
    names: Sequence[str] | None = None,
) -> list[PromptTokens]:
    """Query prompts up to the position of the thought; raises as `T1Tokenizer.encode_prompts`.

    With `think` the prompt asks for a thought. `T1Tokenizer.append_emb_token` adds the thought and
    `<emb_token>`. `task` is the name of the instruction in the preset.
    """
    return tokenizer.encode_prompts(
        preset.query_template if think else preset.query_nothink_template,
        instruction=preset.instruction(task),
        texts=texts,
        max_tokens=max_tokens,
        names=names,
    )


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
    encoded = [tokenizer.encode_thought(text) for text in thoughts]
    return [
        tokenizer.append_emb_token(prompt, thought)
        for prompt, thought in zip(prompts, encoded, strict=True)
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
