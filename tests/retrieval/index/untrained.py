"""An approximate index without a back end, for tests of what all of them share."""

from t1_jax.retrieval.index.approximate import ApproximateIndex


class Untrained(ApproximateIndex):
    """Trains nothing, and stores nothing."""

    @staticmethod
    def train(table, settings):
        return None

    @staticmethod
    def read_trained(folder, settings):
        return None

    def write_trained(self, folder):
        pass
