"""Queries and documents to tokens, in the words of a preset."""

from collections.abc import Sequence

from t1_jax.text.presets import PromptPreset
from t1_jax.text.tokenizer import PromptTokens, T1Tokenizer


def encode_queries(
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    texts: Sequence[str],
    *,
    max_tokens: int,
    task: str | None = None,
    think: bool = True,
    items: Sequence[str] | None = None,
) -> list[PromptTokens]:
    """Prompts that end where the thought begins, each at most `max_tokens` long.

    A thought and `<emb_token>` follow by `T1Tokenizer.close`; with `think=False` the prompt does
    not ask for a thought, and `<emb_token>` follows at once. Raises as `encode_prompts` does.
    """
    return tokenizer.encode_prompts(
        preset.query_template if think else preset.query_nothink_template,
        instruction=preset.instruction(task),
        texts=texts,
        max_tokens=max_tokens,
        items=items,
    )


def encode_documents(
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    texts: Sequence[str],
    *,
    max_tokens: int,
    task: str | None = None,
    items: Sequence[str] | None = None,
) -> list[PromptTokens]:
    """Whole rows, `<emb_token>` at the end, each at most `max_tokens` long with it.

    Texts are cut first and the token is appended then. Raises as `encode_prompts` does.
    """
    prompts = tokenizer.encode_prompts(
        preset.document_template,
        instruction=preset.instruction(task),
        texts=texts,
        max_tokens=max_tokens - 1,
        items=items,
    )
    return [tokenizer.close(prompt) for prompt in prompts]
