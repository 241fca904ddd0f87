"""The same model behind a plain loop: `python -m benchmarks.serve.peer MODEL PORT`.

What a careful user would write first: FastAPI's server (uvicorn), transformers, one request at a
time under a lock, `generate`, then one forward pass for the embedding. Prompts come as token ids:
both sides compute on the same.
"""

import asyncio
import json
import sys
import threading
from typing import Any

import torch
import uvicorn
from transformers import AutoModelForCausalLM


def main(path: str, port: str) -> None:
    """Loads the model and answers until it is ended."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
    lock = threading.Lock()

    @torch.inference_mode()
    def embed(ids: list[int], max_new_tokens: int, emb: int, eos: list[int]) -> dict[str, Any]:
        prompt = torch.tensor([ids])
        with lock:
            if max_new_tokens:
                prompt = model.generate(
                    prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max_new_tokens,
                    do_sample=False, eos_token_id=[emb, *eos], pad_token_id=eos[0],
                )  # fmt: skip
            if int(prompt[0, -1]) != emb:
                prompt = torch.cat([prompt, torch.tensor([[emb]])], dim=1)
            hidden = model.model(prompt).last_hidden_state[0, -1].float()
        vector = torch.nn.functional.normalize(hidden, dim=0)
        return {"embedding": vector.tolist(), "tokens": prompt.shape[1] - len(ids) - 1}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = await asyncio.to_thread(embed, **json.loads(body)) if body else {"status": "ready"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    uvicorn.run(app, port=int(port), log_level="warning", lifespan="off")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
