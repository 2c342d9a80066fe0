"""SQuAD's files, also CMRC 2018's and XQuAD's: articles, their paragraphs, the questions about each.

Chosen by `--reader squad`, with `--form spans`; or with `--form alpaca`, as questions to answer in words
(recipes/prepare/questions.yaml). The file is read whole: such files are small.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader


@READERS.register
class Squad(Reader):
    """A question is a record with `text` and `context` (its paragraph), `question`, `answers`, and `answer`, the first of them or
    nothing; lines count questions."""

    records = True

    class Config(Named):
        name: Literal["squad"] = "squad"
        text: str = "text"
        """Field that holds the text when no form is asked for: the paragraph, once for each question."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        try:
            tree = json.loads("".join(opened.chunks()))
            questions = list(_questions(tree))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield Bad(1, f"not of SQuAD's form: {error!r}", opened.piece.bytes)
            return
        for number, record in enumerate(questions, 1):
            size = len(json.dumps(record, ensure_ascii=False).encode(errors="replace"))
            yield from self.documents(record, number, limit, size)


def _questions(tree: Any) -> Iterator[dict[str, Any]]:
    for article in tree["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                context = paragraph["context"]
                first = next((one["text"] for one in asked["answers"]), "")
                yield {"text": context, "question": asked["question"], "context": context, "answers": asked["answers"],
                       "answer": first}  # fmt: skip
