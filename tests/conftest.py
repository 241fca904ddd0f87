"""What every test stands on: JAX on eight virtual CPU devices, annotations checked, no network."""

import os

# Before anything imports jax or transformers.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import jax
import jaxtyping

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "float32")

# Every function of the package checks the types and shapes it is annotated with.
jaxtyping.install_import_hook("t1_jax", "beartype.beartype")

# The first example of a property compiles, so time per example says nothing here.
hypothesis.settings.register_profile("t1_jax", deadline=None, max_examples=50)
hypothesis.settings.load_profile("t1_jax")
