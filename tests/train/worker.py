"""One process of a job of several: `python -m tests.train.worker CONFIG ADDRESS COUNT NUMBER`."""

import sys
from pathlib import Path

import jax

from t1_jax.config import load_config
from t1_jax.train import TrainConfig, train


def main(config: str, address: str, count: str, number: str) -> None:
    """Joins the others and trains."""
    jax.distributed.initialize(address, int(count), int(number))
    assert jax.process_count() == int(count)
    train(load_config(TrainConfig, Path(config)), log=print, show_progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
