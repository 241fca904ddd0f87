"""Seeds over their whole range give streams of their own."""

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.evaluate import EvaluationConfig
from t1_jax.evaluate.report import ReportOptions
from t1_jax.generate import SamplingParams
from t1_jax.seeds import MAX_SEED, check_seed, key_data, stable_hash
from t1_jax.train.data import StageDataConfig


def test_the_hash_is_the_same_everywhere_and_depends_on_every_part():
    # BLAKE2b of '[0, "q1", 2]', by coreutils' b2sum -l 64.
    assert stable_hash(0, "q1", 2) == 0x3D988136720426F5
    keys = [(0, "a"), ("a", 0), ("0", "a"), (0, "a", 0), (2**32, "a"), (MAX_SEED, "a")]
    assert len({stable_hash(*key) for key in keys}) == len(keys)
    high, low = key_data(0, "q1", 2).tolist()
    assert (high << 32) + low == stable_hash(0, "q1", 2)
    assert key_data(0).dtype == np.uint32


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_every_config_rejects_a_seed_out_of_range(seed):
    for make in (
        lambda: SamplingParams(seed=seed),
        lambda: StageDataConfig(seed=seed),
        lambda: EvaluationConfig(query_seed=seed),
        lambda: EvaluationConfig(bootstrap_seed=seed),
        lambda: ReportOptions(seed=seed),
        lambda: check_seed(seed),
    ):
        with pytest.raises(ConfigError, match=r"seed must be an integer from 0 to 2\*\*64 - 1"):
            make()
    check_seed(MAX_SEED)
