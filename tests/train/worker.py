"""One process of several: `python -m tests.train.worker CONFIG...`."""

import sys
from pathlib import Path

from t1_jax.config import load_config
from t1_jax.parallel import multi_host_job
from t1_jax.train import TrainConfig, train


def main(*configs: str) -> None:
    """Joins the others, as the environment says, and trains one config after the other."""
    with multi_host_job():
        for config in configs:
            train(load_config(TrainConfig, Path(config)), log=print, show_progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
