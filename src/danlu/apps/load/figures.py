"""What the figures of a load mean, and how they are made from what the client saw.

Definitions differ between tools; these are ours, and they travel with every report.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from danlu.apps.load.client import Answer

SCHEMA = 1
"""Version of the report's form."""
DEFINITIONS = {
    "ttft_s": "time to first token: from sending the request to the first non-empty piece of text; the chunk that only names the "
    "role does not count",
    "itl_s": "inter-token latency: the gaps between pieces of text that follow one another, all requests pooled; a piece may "
    "hold several tokens",
    "tpot_s": "time per output token: (end to end - TTFT) / (output tokens - 1), one figure for each request of two "
    "tokens or more",
    "e2e_s": "end to end: from sending the request to the last byte of the answer",
    "request_rate": "successes a second, from the first sending to the last end",
    "output_tokens_per_s": "tokens written for successes, over the same time",
    "total_tokens_per_s": "the same with the tokens of their prompts",
    "success": "ended with a finish_reason",
    "incomplete": "began and ended without a finish_reason, or not within the time limit",
    "error": "a status other than 200, an error inside the stream, or no connection",
    "left": "hung up on by the client on purpose (--disconnects); not in any figure of time",
    "refused": "a body that was wrong on purpose (--bad_bodies) and answered with 4xx",
    "percentiles": "linear between the two nearest observations; successes only",
}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, percentiles, least and most; {} of nothing.

    >>> spread([1.0, 2.0, 4.0])["p50"]
    2.0
    """
    if not values:
        return {}
    ordered = sorted(values)
    found = {"mean": sum(ordered) / len(ordered), **{f"p{share}": percentile(ordered, share) for share in (50, 90, 99)}}
    return {**found, "min": ordered[0], "max": ordered[-1]}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` per cent of sorted values lie, linear between neighbours.

    >>> percentile([0.0, 10.0], 25)
    2.5
    """
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of one load."""
    good = [one for one in answers if one.outcome == "success"]
    outcomes = Counter(one.outcome for one in answers)
    duration = max(one.ended for one in answers) - min(one.started for one in answers)
    written, read = sum(one.output_tokens for one in good), sum(one.prompt_tokens for one in good)
    spoken = [one for one in good if one.pieces]
    return {
        "requests": {outcome: outcomes[outcome] for outcome in ("success", "incomplete", "error", "left", "refused")},
        "errors": dict(Counter(one.error for one in answers if one.error).most_common(10)),
        "duration_s": duration,
        "request_rate": len(good) / duration, "output_tokens_per_s": written / duration,
        "total_tokens_per_s": (written + read) / duration,
        "prompt_tokens": spread([one.prompt_tokens for one in good]),
        "output_tokens": spread([one.output_tokens for one in good]),
        "cached_tokens": sum(one.cached_tokens for one in good), "counted_by": counted_by(good),
        "ttft_s": spread([one.pieces[0] - one.started for one in spoken]),
        "itl_s": spread([later - earlier for one in spoken for earlier, later in zip(one.pieces, one.pieces[1:], strict=False)]),
        "tpot_s": spread([(one.ended - one.pieces[0]) / (one.output_tokens - 1) for one in spoken if one.output_tokens > 1]),
        "e2e_s": spread([one.ended - one.started for one in good]),
    }  # fmt: skip


def counted_by(answers: Sequence[Answer]) -> str:
    """Who counted the tokens."""
    return "usage of the server" if all(one.counted for one in answers) else "pieces of text"
