"""Prompts and token batches: truncation that keeps `<emb_token>`, and length buckets."""

from t1_jax.text.batches import BucketConfig as BucketConfig
from t1_jax.text.batches import TokenBatch as TokenBatch
from t1_jax.text.batches import restore_order as restore_order
from t1_jax.text.batches import token_batches as token_batches
from t1_jax.text.instructions import InstructionSet as InstructionSet
from t1_jax.text.instructions import instruction_set_names as instruction_set_names
from t1_jax.text.instructions import load_instructions as load_instructions
from t1_jax.text.presets import PromptPreset as PromptPreset
from t1_jax.text.presets import load_preset as load_preset
from t1_jax.text.prompts import CANDIDATE_TOKENS as CANDIDATE_TOKENS
from t1_jax.text.prompts import append_thoughts as append_thoughts
from t1_jax.text.prompts import candidate_titles as candidate_titles
from t1_jax.text.prompts import tokenize_documents as tokenize_documents
from t1_jax.text.prompts import tokenize_queries as tokenize_queries
from t1_jax.text.repetition import REPETITIVE as REPETITIVE
from t1_jax.text.repetition import repetition as repetition
from t1_jax.text.tokenizer import PromptTokens as PromptTokens
from t1_jax.text.tokenizer import T1Tokenizer as T1Tokenizer
