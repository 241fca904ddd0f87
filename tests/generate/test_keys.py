import numpy as np

from t1_jax.generate.keys import thought_keys


def test_keys_are_a_function_of_seed_id_and_sample():
    base = thought_keys(0, "q1", 4)
    assert np.array_equal(base, thought_keys(0, "q1", 4))
    assert np.array_equal(base[:2], thought_keys(0, "q1", 2))
    others = [thought_keys(seed, "q1", 4) for seed in (1, 2**32, 9_000_000_000, 2**64 - 1)]
    rows = np.concatenate([base, thought_keys(0, "q2", 4), *others])
    assert len({tuple(row) for row in rows.tolist()}) == 24
