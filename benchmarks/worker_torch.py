"""PyTorch and transformers as a worker: `python -m benchmarks.worker_torch MODEL DTYPE`.

Written as a careful user would: inference mode, rows sorted by length, batches of a token budget,
`generate` with a static set of options.
"""

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.protocol import serve

BATCH_TOKENS = 4096


def main(path: str, dtype: str) -> None:
    """Loads the model and answers `encode` and `think` tasks."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()

    @torch.inference_mode()
    def encode(task: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        rows = sorted(task["rows"], key=len, reverse=True)
        while rows:
            count = max(1, BATCH_TOKENS // len(rows[0]))
            batch, rows = rows[:count], rows[count:]
            ids, mask = padded(batch, left=False)
            hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            at = mask.sum(1) - 1
            pooled = hidden[torch.arange(len(batch)), at].float()
            torch.nn.functional.normalize(pooled).numpy()
        return {"seconds": time.perf_counter() - start}

    @torch.inference_mode()
    def think(task: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        ids, mask = padded(task["prompts"], left=True)
        new = task["new_tokens"]
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            min_new_tokens=new,
            max_new_tokens=new,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=task["samples"],
            pad_token_id=0,
        )
        assert out.shape == (len(task["prompts"]) * task["samples"], ids.shape[1] + new)
        return {"seconds": time.perf_counter() - start}

    serve({"encode": encode, "think": think})


def padded(rows: list[list[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as a rectangle, and which places are real."""
    length = max(map(len, rows))
    ids = torch.zeros((len(rows), length), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids, mask


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
