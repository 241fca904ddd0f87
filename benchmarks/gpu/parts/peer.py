"""transformers with SDPA on the same card, in the same shapes, for encode and generate."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part

_SIZES = {
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151_936,
}
_TOY_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "vocab_size": 512,
}


def check(setting: Setting, record: Record) -> None:
    """Qwen3-0.6B with random bf16 weights; written as a careful user would."""
    try:
        import torch
        from transformers import Qwen3Config, Qwen3ForCausalLM
    except ImportError as error:
        record.skip("transformers with SDPA", str(error))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not setting.toy:
        record.skip("transformers with SDPA", "PyTorch sees no GPU")
        return
    sizes: dict[str, Any] = dict(_TOY_SIZES if setting.toy else _SIZES)
    sizes |= {"attn_implementation": "sdpa", "tie_word_embeddings": True}
    config = Qwen3Config(**sizes)
    with torch.device(device):
        model = Qwen3ForCausalLM(config).to(torch.bfloat16).eval()

    def timed(call: Callable[[], Any], rounds: int) -> float:
        """Seconds of a call, after a first one, without waiting for each."""
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / rounds

    def ids(rows: int, length: int) -> torch.Tensor:
        return torch.randint(3, sizes["vocab_size"], (rows, length), device=device)

    with torch.inference_mode():
        for length in (512, 2048):
            rows, size = (2, 8) if setting.toy else (16_384 // length, length)
            tokens = ids(rows, size)
            with record.case(f"peer encode, {length}"):
                seconds = timed(lambda tokens=tokens: model.model(tokens), 5)
                record.measure(
                    f"transformers encode Qwen3-0.6B, {length:,} tokens",
                    rows * size / seconds,
                    "tokens/s",
                )
        new = 4 if setting.toy else 64
        for batch in (1, 2) if setting.toy else (1, 32, 256):
            prompt = ids(batch, 8 if setting.toy else 64)
            with record.case(f"peer generate, batch {batch}"):
                seconds = timed(
                    lambda prompt=prompt: model.generate(
                        prompt,
                        attention_mask=torch.ones_like(prompt),
                        min_new_tokens=new,
                        max_new_tokens=new,
                        do_sample=True,
                        temperature=1.0,
                        top_k=0,
                        pad_token_id=0,
                    ),
                    1 if setting.toy else 2,
                )
                record.measure(
                    f"transformers generate Qwen3-0.6B, batch {batch}, {prompt.shape[1]} + {new}",
                    batch * new / seconds,
                    "tokens/s",
                    note="prefill included",
                )


if __name__ == "__main__":
    run_part(check)
