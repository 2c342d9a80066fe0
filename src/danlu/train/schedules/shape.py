"""What every schedule shares: the climb at the start, and the walk down between two levels."""


def climb(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of the run, as a factor in (0, 1]; never zero, so step 0 counts.

    >>> [climb(step, 10, 0.4) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    length = round(warmup * steps)
    return min(1.0, (step + 1) / length) if length else 1.0


def remaining(step: int, steps: int, start: float) -> float:
    """Share of a descent still ahead at `step`: one until `start` (in steps), above zero at the last step.

    >>> [remaining(step, 10, 6) for step in (0, 6, 7, 9)]
    [1.0, 1.0, 0.75, 0.25]
    """
    return 1.0 if step <= start or start >= steps else (steps - step) / (steps - start)
