from tests.retriever.conftest import tiny_t1 as tiny_t1
