"""T1 in other libraries; each module needs the extra of its name, such as `t1_jax[langchain]`."""
