"""Counters and histograms of a server, in the text format of Prometheus at `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (0, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one server; their names begin with `t1_`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "t1_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "t1_request_seconds", "Time of a request.", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._phase_seconds = Histogram(
            "t1_phase_seconds",
            "Time by phase: queue and prefill of a query, decode (a chunk of the batch), encode (a "
            "batch of rows), score (titles of a query, for verify), search (without verify).",
            ["phase"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "t1_tokens",
            "Tokens by kind: prompt, thought, document, title.",
            ["kind"],
            registry=registry,
        )
        self._queue_jobs = Gauge("t1_queue_jobs", "Jobs that wait.", registry=registry)
        self._queue_tokens = Gauge("t1_queue_tokens", "Tokens that wait.", registry=registry)
        self._cache = Counter(
            "t1_cache_lookups", "Lookups of query embeddings by result: hit, miss.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.batch_fill = Gauge(
            "t1_batch_fill",
            "Thoughts that run, as a fraction of the rows of all batches that are kept.",
            registry=registry,
        )
        self.first_token = Histogram(
            "t1_first_token_seconds", "Time from arrival to the first token of a thought.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.thought_tokens = Histogram(
            "t1_thought_tokens", "Tokens of a thought.", buckets=_TOKENS, registry=registry
        )
        self.cancelled = Counter(
            "t1_cancelled",
            "Jobs that were cancelled: the client went away, or another job of the request failed.",
            registry=registry,
        )
        self.failures = Counter(
            "t1_decode_failures", "Chunks that failed and were tried again.", registry=registry
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def phase(self, phase: str, seconds: float) -> None:
        """Records the time of a phase."""
        self._phase_seconds.labels(phase).observe(seconds)

    def tokens(self, kind: str, count: int) -> None:
        """Counts tokens."""
        self._tokens.labels(kind).inc(count)

    def queue(self, jobs: int, tokens: int) -> None:
        """Sets what waits now."""
        self._queue_jobs.set(jobs)
        self._queue_tokens.set(tokens)

    def cache(self, *, hit: bool) -> None:
        """Counts a lookup."""
        self._cache.labels("hit" if hit else "miss").inc()

    def text(self) -> bytes:
        """All metrics, in Prometheus's text format."""
        return generate_latest(self._registry)
