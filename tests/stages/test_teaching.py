"""`danlu finetune` on conversations: it learns to answer and to stop, what it leaves is what serving reads, seams are refused."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import tiny_model

import danlu
from danlu.core.errors import BadInput, BadSettings, UnsupportedModel
from danlu.core.labels import NO_LABEL
from danlu.objectives import OBJECTIVES
from danlu.train import loop

WORDS = ["sun", "moon", "star", "rain"]
FAST = {"batch": 16, "steps": 70, "optimiser": {"name": "adamw", "learning_rate": 1e-2}, "watch": {"save": {"every": 25}},
        "judge": {"questions": 8, "answer_tokens": 12}}  # fmt: skip


def chat(rng):
    word = rng.choice(WORDS)
    return {"instruction": f"say {word}{rng.choice([' ', ', '])}{rng.randint(0, 99)}", "output": f"{word}!"}


def chats(path, make=chat, count=200, form="alpaca", **settings):
    rng = random.Random(3)
    path.with_suffix(".jsonl").write_text("".join(json.dumps(make(rng)) + "\n" for _ in range(count)))
    return danlu.prepare(str(path.with_suffix(".jsonl")), out=path, form=form, holdout=0.1, dedups=[], engine="sequential",
                         **settings).path  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teaching")
    tiny_model(
        folder / "base", hidden_size=32, head_dim=8, intermediate_size=64, initializer_range=0.1, max_position_embeddings=96
    )
    chats(folder / "chats")
    return folder


@pytest.fixture(scope="module")
def taught(place):
    (place / "old.txt").write_text("the cat sat on the mat. " * 40)
    asked = {**FAST["judge"], "text": [place / "old.txt"]}
    return danlu.finetune(place / "base", place / "chats", out=place / "taught", **{**FAST, "judge": asked})


def test_it_learns_to_answer_and_to_stop(taught):
    change = taught.lineage.metrics["change"]
    assert change["held-out answers matched exactly"]["before"]["value"] == 0
    assert change["held-out answers matched exactly"]["after"]["value"] >= 0.8
    assert change["ended by itself"]["after"]["value"] >= 0.9
    assert change["loss on held-out answers, nats a token"]["verdict"] == "better"
    assert change["KL from the base, nats a token"]["after"]["value"] > 0.1
    assert change["bits per byte of held-out text"]["verdict"] in ("worse", "same", "better")
    page = (taught.path / "report.html").read_text()
    assert "Before and after" in page and "Before and after" in (taught.path / "README.md").read_text()


def test_what_it_leaves_is_served_as_it_was_taught(taught, place):
    model = danlu.load(taught.path)
    end = model.tokenizer.special_tokens["<|im_end|>"]
    assert end in model.ends
    assert json.loads((taught.path / "generation_config.json").read_text())["eos_token_id"][0] == end
    assert (taught.path / "chat_template.jinja").read_text() == model.tokenizer.chat_template
    from danlu.tokenizer.chat import encode_chat

    ids = encode_chat(model.tokenizer, model.tokenizer.chat_template, [{"role": "user", "content": "say star 7"}])
    answer = model._go_on(ids, danlu.engine.request.Sampling(temperature=0, max_tokens=12))
    assert "".join(answer) == "star!"
    ledger = taught.lineage.ledger
    assert ledger["preflight"]["train"]["taught_turns"] == ledger["train"]["samples"] == ledger["train"]["parts"]


def test_loss_and_gradients_are_those_of_transformers_on_the_same_conversation(taught):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from danlu.data.shards import read_documents
    from danlu.objectives.frame import Frame
    from danlu.train.samples import pack

    ours = danlu.load(taught.path)
    objective = OBJECTIVES.build(OBJECTIVES["sft"].Config(), ours.tokenizer)
    dataset = taught.lineage.inputs[1].path
    documents = list(read_documents(dataset))[:5]
    frame = Frame(ours.tokenizer, False, ours.context, False)
    encoded = [part for one in documents for part in objective.encode(one, frame, "raise")]
    batch = pack(objective, list(enumerate(encoded)), 96)
    loss = objective.loss_sum(ours.model, batch)
    (loss / batch.target_count).backward()

    theirs = AutoModelForCausalLM.from_pretrained(taught.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(taught.path)
    total, count = 0.0, 0
    for document in documents:
        messages = json.loads(document.sample["messages"])
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        last = max(at for at, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids("<|im_end|>"))
        labels = [token if len(prompt) <= at <= last else -100 for at, token in enumerate(ids)]
        asked = sum(label != -100 for label in labels)
        total = total + theirs(torch.tensor([ids]), labels=torch.tensor([labels])).loss * asked
        count += asked
    (total / count).backward()
    assert count == batch.target_count
    assert loss.item() / count == pytest.approx((total / count).item(), rel=1e-5)
    own = dict(ours.model.named_parameters())
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("more", [{}, {"adapter": "lora"}])
def test_a_killed_run_ends_with_the_same_bytes(place, monkeypatch, more):
    settings = {**FAST, "steps": 9, "watch": {"save": {"every": 2}}, "judge": {"questions": 0, "text_tokens": 0}, **more}
    name = "adapter_model" if more else "model"
    straight = danlu.finetune(place / "base", place / "chats", out=place / f"straight-{name}", **settings)

    def die(run):
        if run.step == 5:
            run.checkpoints.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "_review", die)
        danlu.finetune(place / "base", place / "chats", out=place / f"killed-{name}", **settings)
    again = danlu.finetune(place / "base", place / "chats", out=place / f"killed-{name}", **settings)
    one, two = (load_file(folder.path / f"{name}.safetensors") for folder in (straight, again))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_an_adapter_answers_as_it_was_taught_and_merges(place, taught):
    data = chats(place / "asking", lambda rng: {**chat(rng), "output": "what?"})
    settings = {**FAST, "adapter": {"name": "lora", "rank": 8}}
    made = danlu.finetune(taught.path, data, out=place / "adapter", **settings)
    assert made.kind == "adapter" and (made.path / "adapter_config.json").is_file()
    assert made.lineage.metrics["change"]["held-out answers matched exactly"]["after"]["value"] >= 0.8
    merged = danlu.merge(made.path, out=place / "merged")
    ids = torch.randint(3, 250, (2, 11), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(danlu.load(made.path).logits(ids), danlu.load(merged.path).logits(ids), rtol=1e-4, atol=1e-4)
    assert danlu.load(merged.path).tokenizer.chat_template == danlu.load(made.path).tokenizer.chat_template


def test_frozen_weights_stay_and_new_tokens_arrive(place):
    asked = {**FAST, "steps": 4, "freeze": ["model.layers.0.*"], "new_tokens": ["sunmoon"]}
    made = danlu.finetune(place / "base", place / "chats", out=place / "frozen", **asked)
    before, after = (load_file(path / "model.safetensors") for path in (place / "base", made.path))
    same = {name for name in before if before[name].shape == after[name].shape and torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("model.layers.0.")}
    model = danlu.load(made.path)
    assert model.tokenizer.encode("sunmoon") == [model.tokenizer.vocab_size - 1]
    with pytest.raises(BadSettings, match="freezes the whole model"):
        danlu.finetune(place / "base", place / "chats", out=place / "x", freeze=["model.layers.0.*"], adapter="lora")


def long_talk(rng):
    said = [{"role": "system", "content": "be short"}]
    for _ in range(rng.choice([1, 6])):
        word = rng.choice(WORDS)
        said += [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
    return {"messages": said}


def test_long_talks_are_split_by_exchanges_and_every_answer_is_learned_once(place):
    from danlu.data.shards import read_documents
    from danlu.objectives.frame import Frame
    from danlu.stages.speaking import with_template

    data = chats(place / "talks", long_talk, 40, "messages")
    with pytest.raises(BadInput, match=r"talks\.jsonl:\d+ .*sees 96 at once"):
        danlu.finetune(place / "base", data, out=place / "x", **{**FAST, "steps": 1})
    made = danlu.finetune(place / "base", data, out=place / "split", overlong="split", **{**FAST, "steps": 1})
    ledger = made.lineage.ledger["train"]
    assert ledger["split"] > 0 and ledger["parts"] > ledger["samples"] and ledger["dropped"] == ledger["truncated"] == 0

    class Config:
        template, model = None, place / "base"

    tokenizer = with_template(Config, danlu.load(place / "base").tokenizer)
    objective, frame = OBJECTIVES.build(OBJECTIVES["sft"].Config(), tokenizer), Frame(tokenizer, False, 96, False)
    end = tokenizer.special_tokens["<|im_end|>"]
    for document in read_documents(data):
        said = [one["content"] for one in json.loads(document.sample["messages"]) if one["role"] == "assistant"]
        learned, parts = [], objective.encode(document, frame, "split")
        for part in parts:
            assert len(part.ids) <= 96 and tokenizer.decode(part.ids.tolist()).startswith("<|im_start|>system\nbe short")
            answer = [token for token in part.targets.tolist() if token != NO_LABEL]
            learned += tokenizer.decode(answer).split("<|im_end|>")[:-1]
            assert answer[-1] == end
        assert learned == said


def test_what_cannot_be_taught_is_refused_and_leaves_nothing(place, tmp_path):
    data = place / "chats"
    with pytest.raises(BadSettings, match="nor a readable file"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", template="nowhere.jinja")
    tiny_model(tmp_path / "t5", "t5")
    with pytest.raises(UnsupportedModel, match="conversations are written on"):
        danlu.finetune(tmp_path / "t5", data, out=tmp_path / "x")
    (tmp_path / "endless.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    with pytest.raises(BadInput, match="never stop"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", template=str(tmp_path / "endless.jinja"))
    with pytest.raises(BadSettings, match=r"model\.layer\.0"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", freeze=["model.layer.0.*"], **{**FAST, "steps": 1})
    assert not (tmp_path / "x").exists()
