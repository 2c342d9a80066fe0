"""Which part of an answer is judged: all of it, what stands between tags, or what stands behind a mark."""

import json


def part_of(answer: str, tag: str = "", mark: str = "") -> str | None:
    """Between the last <tag> and the </tag> after it, then behind the last `mark`; None where one of them is missing.

    >>> part_of("<answer>it is: 5</answer> so", "answer", "it is:"), part_of("5", "answer"), part_of("5")
    (' 5', None, '5')
    """
    if tag:
        _, opened, rest = answer.rpartition(f"<{tag}>")
        answer, closed, _ = rest.partition(f"</{tag}>")
        if not opened or not closed:
            return None
    if mark:
        _, found, answer = answer.rpartition(mark)
        return answer if found else None
    return answer


def truths(truth: str) -> list[str]:
    """The texts that are right: one, or a JSON list of several.

    >>> truths("yes"), truths('["yes", "yeah"]'), truths("[1, 2]"), truths("[")
    (['yes'], ['yes', 'yeah'], ['[1, 2]'], ['['])
    """
    if truth.startswith("["):
        try:
            found = json.loads(truth)
        except ValueError:
            return [truth]
        if found and isinstance(found, list) and all(isinstance(one, str) for one in found):
            return found
    return [truth]
