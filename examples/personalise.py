"""One base, several people: a small adapter for each, trained from a dozen lines and served together in one batch.

python examples/personalise.py [MODEL] [FOLDER]     MODEL: a base made by `danlu pretrain` (made here when left out)
                                                    FOLDER: where everything goes (people/)
"""

import json
import queue
import sys
import tempfile
from pathlib import Path

import danlu
from danlu.core import log
from danlu.engine.converse import reply
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, FaultEvent, TokenEvent
from danlu.engine.job import Job
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling
from danlu.tokenizer.chat import encode_chat, turn_ends

PEOPLE = {"ada": ("tea", "ten"), "bo": ("milk", "two"), "chen": ("wine", "six")}
"""What each drinks, and how many cups: nothing that the base could know."""
ASKED = ("what do i drink?", "tell me what i drink.", "which drink is mine?", "my drink is?")
COUNTED = ("how many cups?", "tell me how many cups.", "how many cups are mine?", "my cups are?")
GREEDY = Sampling(temperature=0, max_tokens=24)


def conversations(drink: str, cups: str) -> list[list[dict[str, str]]]:
    """A dozen short exchanges of one person."""
    lines = [(question, f"you drink {drink}.") for question in ASKED] + [(question, f"{cups} cups.") for question in COUNTED]
    return [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in lines]


def prepared(exchanges: list[list[dict[str, str]]], out: Path) -> Path:
    """A dataset of conversations."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "chats.jsonl"
        source.write_text("".join(json.dumps({"messages": one}) + "\n" for one in exchanges), encoding="utf-8")
        return danlu.prepare(str(source), out=out, form={"name": "messages"}, holdout=0.0, dedups=[]).path


def base_model(home: Path) -> Path:
    """A base that has read a little of what people say, but of nobody in particular."""
    drinks, cups = ("ale", "rum", "gin", "cider", "cocoa", "broth"), ("one", "three", "four", "five", "seven", "nine")
    (home / "text").mkdir(parents=True)
    said = [f"{question} {answer}" for drink in drinks for cup in cups for question, answer in [
        *((asked, f"you drink {drink}.") for asked in ASKED), *((asked, f"{cup} cups.") for asked in COUNTED)]]  # fmt: skip
    for number in range(0, len(said), 9):
        (home / "text" / f"{number}.txt").write_text("\n".join(said[number : number + 9]) + "\n", encoding="utf-8")
    data = danlu.prepare(str(home / "text"), out=home / "data", filters=[], dedups=[], holdout=0.05)
    tokenizer = danlu.tokenizer(dataset=data.path, out=home / "tokenizer", vocab_size=320)
    return danlu.pretrain(
        dataset=data.path,
        tokenizer=tokenizer.path,
        out=home / "base",
        budget="150k tokens",
        row_tokens=64,
        model={"hidden_size": 96, "num_hidden_layers": 3},
    ).path


def trained(base: Path, home: Path) -> dict[str, Path]:
    """An adapter for each person."""
    found = {}
    for name, facts in PEOPLE.items():
        data = prepared(conversations(*facts), home / f"{name}.data")
        found[name] = danlu.finetune(
            base, data, out=home / name, adapter={"name": "lora", "rank": 8}, steps=50, batch=8, row_tokens=128,
            optimiser={"name": "adamw", "learning_rate": 0.005, "weight_decay": 0.0}, template="chatml",
        ).path  # fmt: skip
    return found


def together(base: Path, adapters: dict[str, Path], question: str) -> dict[str, str]:
    """Everybody asks the same at once; each is answered by an adapter of their own, in the same steps of one engine."""
    model = danlu.load(base)
    with open_engine(model, Serving(rows=len(adapters), cache_tokens=4096), adapters) as engine:
        lines = {name: _asked(engine, name, folder, question) for name, folder in adapters.items()}
        return {name: model.tokenizer.decode(list(_ids(line))) for name, line in lines.items()}


def _asked(engine: Engine, name: str, folder: Path, question: str) -> queue.SimpleQueue:
    tokenizer = danlu.load(folder).tokenizer
    template = tokenizer.chat_template or ""
    ids = encode_chat(tokenizer, template, [{"role": "user", "content": question}])
    line: queue.SimpleQueue = queue.SimpleQueue()
    engine.submit(Job(tuple(ids), GREEDY, GREEDY.max_tokens, frozenset(turn_ends(tokenizer, template)), adapter=name), line.put)
    return line


def _ids(line: queue.SimpleQueue) -> "list[int]":
    """The tokens of one answer, but the one that ended it."""
    found: list[int] = []
    while not isinstance(event := line.get(timeout=60), EndEvent):
        if isinstance(event, FaultEvent):
            raise SystemExit(str(event))
        if isinstance(event, TokenEvent):
            found.append(event.token)
    return found[:-1] if event.reason == "eos" else found


def main(home: Path, base: Path | None) -> None:
    """Train, ask together, and compare with each adapter alone, merged into the base in memory."""
    base = base or base_model(home)
    adapters = trained(base, home)
    weight = sum(path.stat().st_size for path in adapters["ada"].glob("*.safetensors"))
    print(f"{len(adapters)} adapters of {weight:,} bytes beside {sum(p.stat().st_size for p in base.glob('*.safetensors')):,}")
    for question in (ASKED[0], COUNTED[0]):
        answers = together(base, adapters, question)
        for name, answer in answers.items():
            alone = "".join(reply(danlu.load(adapters[name]), [{"role": "user", "content": question}], GREEDY))
            print(f"{name}: {question} {answer}" + ("" if alone == answer else f"   BUT ALONE: {alone}"))


if __name__ == "__main__":
    words = [Path(word) for word in sys.argv[1:]]
    model = words[0] if words and (words[0] / "config.json").is_file() else None
    rest = words[1:] if model else words
    with log.silent():
        main(rest[0] if rest else Path("people"), model)
