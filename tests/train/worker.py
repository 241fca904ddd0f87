"""One process of several: `python -m tests.train.worker ADDRESS COUNT NUMBER CONFIG...`."""

import sys
from pathlib import Path

import jax

from t1_jax.config import load_config
from t1_jax.train import TrainConfig, train


def main(address: str, count: str, number: str, *configs: str) -> None:
    """Joins the others and trains one config after the other."""
    jax.distributed.initialize(address, int(count), int(number))
    assert jax.process_count() == int(count)
    for config in configs:
        train(load_config(TrainConfig, Path(config)), log=print, show_progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
