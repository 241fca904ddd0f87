"""Benchmarks as data: their description, and readers of their tasks from local files."""

from t1_jax.retrieval.benchmarks.bright import EXAMPLES as EXAMPLES
from t1_jax.retrieval.benchmarks.data import BenchmarkData as BenchmarkData
from t1_jax.retrieval.benchmarks.data import Documents as Documents
from t1_jax.retrieval.benchmarks.data import write_source as write_source
from t1_jax.retrieval.benchmarks.rewriting import ORIGINAL as ORIGINAL
from t1_jax.retrieval.benchmarks.rewriting import Rewriting as Rewriting
from t1_jax.retrieval.benchmarks.rewriting import read_rewriting as read_rewriting
from t1_jax.retrieval.benchmarks.spec import Benchmark as Benchmark
from t1_jax.retrieval.benchmarks.spec import BenchmarkMean as BenchmarkMean
from t1_jax.retrieval.benchmarks.spec import BenchmarkTask as BenchmarkTask
from t1_jax.retrieval.benchmarks.spec import benchmark_names as benchmark_names
from t1_jax.retrieval.benchmarks.spec import load_benchmark as load_benchmark
