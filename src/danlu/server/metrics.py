"""What is counted, for Prometheus, under the names that vLLM uses (danlu: in place of vllm:); no text, no key, no address."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORT = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_LONG = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 60, 120, 240, 480)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

Row = tuple[str, dict[str, float]]
GAUGES = {
    "num_requests_running": "Answers that are being written or whose prompt is being read.",
    "num_requests_waiting": "Answers that wait.",
    "kv_cache_usage_perc": "Part of the cache's blocks that requests hold, 0 to 1.",
    "engine_alive": "1 while the engine's thread works.",
    "engine_stalled_seconds": "Seconds since the last step while there is work.",
}
COUNTERS = {
    "prompt_tokens": "Prompt tokens read; those found in the cache are not among them.",
    "generation_tokens": "Tokens written.",
    "prefix_cache_queries": "Prompt tokens looked for in the cache.",
    "prefix_cache_hits": "Prompt tokens found there.",
    "num_preemptions": "Answers that lost their blocks and were read again.",
    "engine_steps": "Steps of the engine.",
    "spec_decode_num_draft_tokens": "Tokens guessed.",
    "spec_decode_num_accepted_tokens": "Tokens guessed right.",
}


class Metrics:
    """A registry of its own, so that two servers in one process do not mix."""

    def __init__(self, engines: Callable[[], Iterable[Row]]):
        """engines: (model, values of GAUGES and COUNTERS), asked at each scrape."""
        self.registry = CollectorRegistry()
        self.registry.register(_Engines(engines))
        model = ["model_name"]
        self.success = self._counter("request_success", "Answers that ended.", [*model, "finished_reason"])
        self.failed = self._counter("request_failed", "Requests that failed after they were accepted.", [*model, "kind"])
        self.cancelled = self._counter("request_cancelled", "Requests whose client left.", model)
        self.rejected = self._counter("admission_rejections", "Requests refused because too many wait.", model)
        self.first = self._histogram("time_to_first_token_seconds", "From the request to its first token.", model, _LONG)
        self.between = self._histogram("inter_token_latency_seconds", "Between tokens of an answer.", model, _SHORT)
        self.per_token = self._histogram("request_time_per_output_token_seconds", "Mean time of a token after the first.", model,
                                         _SHORT)  # fmt: skip
        self.whole = self._histogram("e2e_request_latency_seconds", "From the request to its end.", model, _LONG)
        self.prompts = self._histogram("request_prompt_tokens", "Tokens of prompts.", model, _COUNTS)
        self.answers = self._histogram("request_generation_tokens", "Tokens of all answers to a request.", model, _COUNTS)
        self.choices = self._histogram("request_params_n", "Answers asked for.", model, (1, 2, 4, 8))
        self.most = self._histogram("request_params_max_tokens", "Most tokens asked for or given.", model, _COUNTS)
        self.http = self._counter("http_requests", "Answers over HTTP.", ["route", "status"])
        self.http_seconds = self._histogram("http_request_duration_seconds", "Until the answer ended.", ["route"], _LONG)
        self.in_flight = Gauge("danlu:http_requests_in_flight", "Requests whose answer has not ended.", registry=self.registry)

    def _counter(self, name: str, help: str, labels: list[str]) -> Counter:
        return Counter(f"danlu:{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, labels: list[str], buckets: Any) -> Histogram:
        return Histogram(f"danlu:{name}", help, labels, buckets=buckets, registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """An answer over HTTP has ended; status 0: the client left before it began."""
        self.http.labels(route, str(status)).inc()
        self.http_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


class _Engines:
    """Asks the engines at each scrape, so that nothing is counted twice."""

    def __init__(self, engines: Callable[[], Iterable[Row]]):
        self._engines = engines

    def collect(self) -> Iterable[Any]:
        rows = list(self._engines())
        for kind, names in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, help in names.items():
                family = kind(f"danlu:{name}", help, labels=["model_name"])
                for model, values in rows:
                    family.add_metric([model], values[name])
                yield family
