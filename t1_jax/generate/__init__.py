"""Layer 2: sampling of thoughts from a decoder."""

from t1_jax.generate.batch import Prompt as Prompt
from t1_jax.generate.continuous import ContinuousBatch as ContinuousBatch
from t1_jax.generate.continuous import RunningThought as RunningThought
from t1_jax.generate.continuous import prefill_lengths as prefill_lengths
from t1_jax.generate.loop import StopTokens as StopTokens
from t1_jax.generate.loop import decode_chunk as decode_chunk
from t1_jax.generate.sampler import Sampler as Sampler
from t1_jax.generate.sampler import check_thought_limits as check_thought_limits
from t1_jax.generate.sampling import SamplingParams as SamplingParams
from t1_jax.generate.sampling import check_temperature as check_temperature
from t1_jax.generate.shapes import BatchShapes as BatchShapes
from t1_jax.generate.state import PromptBatch as PromptBatch
from t1_jax.generate.state import start_batch as start_batch
from t1_jax.generate.thought import FinishReason as FinishReason
from t1_jax.generate.thought import Thought as Thought
from t1_jax.generate.trie import Choices as Choices
