"""Ahead-of-time compilation: what a run needs of the chips of a slice, without having one."""

from t1_jax.train.ahead.largest import Largest as Largest
from t1_jax.train.ahead.largest import find_largest as find_largest
from t1_jax.train.ahead.report import ProgramReport as ProgramReport
from t1_jax.train.ahead.report import StageReport as StageReport
from t1_jax.train.ahead.report import compile_run as compile_run
