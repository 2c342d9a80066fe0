"""Small texts for tokenizer tests: ordinary ones to learn from, hostile ones to survive."""

import sysconfig
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

from tests.docs.toy import notes
from tests.shared_data import shared

HOSTILE = {
    "empty": "",
    "doubled spaces": "  two  spaces   three ",
    "tabs and line ends": "\t\tx\n\n  y\r\n\r\r\n\tz",
    "emoji joined": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽",
    "lone combining marks": "\u0301e\u0301\u0301 \u0301\u20dd",
    "NULs and controls": "\x00a\x00\x00\x01\x1b[0m\x7f\x85",
    "full-width": "Ｆｕｌｌ　ｗｉｄｔｈ１２３，。！",
    "right to left": "\u202bשלום\u202c عليكم ١٢٣",
    "byte order marks": "\ufeffBOM\ufeff\ufffe",
    "replacement character": "\ufffd\ufffd?",
    "special tokens": "<|endoftext|>x<|im_start|>user<|im_end|><|endoftext|",
    "marks of other tokenizers": "##a ### ▁b▁ Ġc <0x0A> ⁀d",
    "supplementary plane": "𠮷野家𝔘𝔫𝔦\U0010ffff",
    "code": "def f(x):\n    return self._camelCase[1_000_000] != 3.14e-10  # 注释\n\n\n",
    "mixed": "使用Python 3.13的 `async`，价格为¥12,345.67元。々〇",
    "every latin-1 character": "".join(map(chr, range(256))),
    "100k spaces": " " * 100_000,
    "long runs": "a" * 5_000 + "中" * 5_000 + "." * 5_000 + "\n" * 5_000 + "7" * 5_000,
}

ENGLISH = (
    "The furnace was warm, and the old man's words were few: stir it, wait, don't hurry. It's 1,024 times easier later. " * 3
)
CHINESE = "炉火正旺，老人的话不多：搅一搅，等一等，不要着急。以后就容易一千零二十四倍了。青山不改，绿水长流。" * 3
CODE = "def stir(pot, times=3):\n    for turn in range(times):\n        pot.turn(turn)\n    return pot.contents[0]\n\n" * 3


@cache
def corpus(size: int = 60_000) -> tuple[str, ...]:
    """About `size` characters of English, Chinese and code: shared texts where they are, our own and Python's own elsewhere."""
    library = Path(sysconfig.get_paths()["stdlib"])
    code = (library / "textwrap.py").read_text(encoding="utf-8") + (library / "heapq.py").read_text(encoding="utf-8")
    english, chinese = shared("en_tinyshakespeare/input.txt"), shared("zh_web_sample/CLUECorpusSmall_sampled.txt")
    texts = (
        english.read_text(encoding="utf-8") if english else "\n".join(topics.values()),
        chinese.read_text(encoding="utf-8") if chinese else "".join(text for name, text in notes() if name.startswith("chinese")),
        code,
    )
    part = size // 3
    return tuple(text[at : at + 1_000] for text in texts for at in range(0, min(part, len(text)), 1_000))
