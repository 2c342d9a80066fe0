"""English text of any size for the data benchmarks: a word chain learnt from Python's own manual, with planted copies."""

import json
import random
import re
from collections import defaultdict
from pathlib import Path
from pydoc_data import topics


class Corpus:
    """Documents of 200 to 800 words; one in 20 is a copy and one in 10 a near copy of an earlier one."""

    def __init__(self, seed: int = 0):
        self.random = random.Random(seed)
        words = re.findall(r"(?<!\S)[A-Za-z]+(?:'[a-z]+)?[.,]?(?!\S)", "\n".join(topics.topics.values()))
        follow: dict[tuple[str, str], list[str]] = defaultdict(list)
        for first, second, third in zip(words, words[1:], words[2:]):
            follow[first, second].append(third)
        self.follow, self.starts = dict(follow), [pair for pair in follow if pair[0][0].isupper()]
        self.recent: list[str] = []

    def document(self) -> str:
        """The next document."""
        draw = self.random.random()
        if self.recent and draw < 0.05:
            return self.random.choice(self.recent)
        if self.recent and draw < 0.15:
            words = self.random.choice(self.recent).split(" ")
            words[self.random.randrange(len(words))] = "changed"
            return " ".join(words)
        text = "\n\n".join(self._paragraph() for _ in range(self.random.randint(3, 8)))
        self.recent = [*self.recent[-200:], text]
        return text

    def _paragraph(self) -> str:
        pair = self.random.choice(self.starts)
        words = list(pair)
        for _ in range(self.random.randint(60, 100)):
            pair = (pair[1], self.random.choice(self.follow.get(pair) or ["."]))
            words.append(pair[1])
        return " ".join(words) + "."


def write(folder: Path, total_bytes: int, files: int = 2, seed: int = 0) -> int:
    """Write about `total_bytes` as JSON Lines; returns the bytes of text in them."""
    folder.mkdir(parents=True)
    corpus, text_bytes = Corpus(seed), 0
    for number in range(files):
        with open(folder / f"part-{number}.jsonl", "w", encoding="utf-8") as out:
            size = 0
            while size < total_bytes / files:
                text = corpus.document()
                size += out.write(json.dumps({"id": f"{number}-{size}", "text": text}, ensure_ascii=False) + "\n")
                text_bytes += len(text.encode())
    return text_bytes
