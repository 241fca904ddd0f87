"""The shipped model's logits, embeddings and greedy thoughts against those that a CPU stored."""

import jax
import numpy as np

from benchmarks.gpu.answers import (
    DTYPES,
    embeddings,
    greedy_thoughts,
    largest_gap,
    last_logits,
    load,
    unpadded,
)
from benchmarks.gpu.experiment import answered_collection, answering_model
from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.retriever import T1

_COSINE = {"float32": 0.99999, "bfloat16": 0.999}
_LOGITS = {"float32": 1e-3, "bfloat16": 2e-2}
"""Largest ‖found − CPU in float32‖ / ‖CPU in float32‖."""
_GAP = {"float32": 5e-3, "bfloat16": 0.25}
"""Nats that a greedy token may be below the likeliest when the row is read at once."""


def check(setting: Setting, record: Record) -> None:
    """Both dtypes; float32 with true float32 products first, then with the device's default."""
    path = answering_model(setting)
    expected = {
        dtype: dict(np.load(setting.pack / "reference" / f"{dtype}.npz")) for dtype in DTYPES
    }
    exact = expected["float32"]
    for dtype in DTYPES:
        with record.case(f"forward {dtype}"):
            model = load(path, dtype, toy=setting.toy)
            with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
                _compare(record, setting, model, dtype, expected[dtype], exact)
            if dtype == "float32":
                logits = last_logits(model, _texts(exact))
                record.measure(
                    "logits of float32 at the device's default precision",
                    _relative(logits, exact["logits"]),
                    "relative error",
                    note="1e-3 and more means that float32 products run as TF32",
                )
            del model


def _compare(
    record: Record,
    setting: Setting,
    model: T1,
    dtype: str,
    expected: dict[str, np.ndarray],
    exact: dict[str, np.ndarray],
) -> None:
    """What needs few programs first: each takes seconds to compile on a GPU."""
    collection = answered_collection(setting)
    found = embeddings(model, collection)
    for name in ("documents", "plain"):
        cosine = float(np.sum(found[name] * expected[name], axis=-1).min())
        record.check(f"{dtype}: cosine of {name}", cosine, _COSINE[dtype], at_least=True)
    error = _relative(last_logits(model, _texts(exact)), exact["logits"])
    own = _relative(expected["logits"], exact["logits"]) if dtype != "float32" else 0.0
    # What the CPU itself loses to bf16, twice, where that is more than the tolerance.
    record.check(f"{dtype}: logits", error, max(_LOGITS[dtype], 2 * own))
    found = greedy_thoughts(model, collection)
    prompts = unpadded(exact["prompts"])
    thoughts, stored = unpadded(found["thoughts"]), unpadded(expected["thoughts"])
    same = np.mean([one == other for one, other in zip(thoughts, stored, strict=True)])
    record.measure(f"{dtype}: greedy thoughts equal to the CPU's", float(same), "share")
    for whose, texts, of in (("the CPU's", stored, expected), ("own", thoughts, found)):
        gap = largest_gap(model, prompts, texts, of["drawn"].tolist())
        record.check(f"{dtype}: {whose} greedy thoughts, gap in nats", gap, _GAP[dtype])
    if same == 1:
        cosine = float(np.sum(found["vectors"] * expected["vectors"], axis=-1).min())
        record.check(f"{dtype}: cosine after thoughts", cosine, _COSINE[dtype], at_least=True)


def _texts(exact: dict[str, np.ndarray]) -> list[list[int]]:
    """The stored prompts and thoughts, so that thoughts that differ do not matter."""
    pairs = zip(unpadded(exact["prompts"]), unpadded(exact["thoughts"]), strict=True)
    return [[*prompt, *thought] for prompt, thought in pairs]


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    real = np.isfinite(expected)  # rows of the vocabulary without a token are minus infinity
    if not np.array_equal(real, np.isfinite(found)):
        return float("nan")
    return float(np.linalg.norm((found - expected)[real]) / np.linalg.norm(expected[real]))


if __name__ == "__main__":
    run_part(check)
