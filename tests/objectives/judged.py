"""Small judged answers, and a tiny model that converses, for the tests of preferences."""

import json
from pathlib import Path

import torch

from danlu.data.shards import Document
from danlu.models.weights import load_model, save_model
from danlu.objectives import OBJECTIVES
from danlu.objectives.frame import Frame
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import with_template
from tests.tiny import tiny_tokenizer, write_tiny

ASKED = [
    ("say hi", "hello you", "no"),
    ("what is two and two?", "four", "it is five, of course"),
    ("", "an empty question", "nothing"),
    ("你好", "你好！", "走开"),
    ("name a colour", "red", "blue is a colour that I like a lot"),
]
"""Question, better and worse answer; lengths of all kinds."""


def said(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def document(number: int = 0, **columns) -> Document:
    sample = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in columns.items()}
    return Document(f"d{number}", "s", "samples.jsonl", number + 1, "", sample=sample)


def pair_documents(asked=ASKED, **more) -> list[Document]:
    return [
        document(number, prompt=said("user", question), chosen=said("assistant", good), rejected=said("assistant", bad), **more)
        for number, (question, good, bad) in enumerate(asked)
    ]


def judged_documents(asked=ASKED) -> list[Document]:
    """Good and bad answers alone, in turn."""
    return [document(number, prompt=said("user", question), completion=said("assistant", good if number % 2 else bad),
                     label="true" if number % 2 else "false")
            for number, (question, good, bad) in enumerate(asked)]  # fmt: skip


def chat_tokenizer() -> Tokenizer:
    return with_template(tiny_tokenizer(), CHATML)


def write_chat_model(folder: Path, noise: float = 0.0, **changes) -> Path:
    """A tiny model folder with the chatml template; noise moves the weights from their first values."""
    write_tiny(folder, **changes)
    chat_tokenizer().save(folder)
    if noise:
        model, generator = load_model(folder), torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += noise * torch.randn(parameter.shape, generator=generator)
        save_model(model, folder)
    return folder


def built(name: str, **settings):
    return OBJECTIVES.build(OBJECTIVES[name].Config(**settings), chat_tokenizer())


def frame(most: int = 200) -> Frame:
    return Frame(chat_tokenizer(), False, most, False)


def encoded(objective, documents, most: int = 200):
    return objective.complete([part for one in documents for part in objective.encode(one, frame(most), "raise")])
