"""A teacher's numbers are those of its logits, the same from memory and from disk, whole or not at all."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.objectives.judged import built, chat_tokenizer, document, encoded, said
from tests.tiny import tiny_tokenizer

from danlu.core.errors import NoSpace, TokenizerMismatch
from danlu.core.labels import NO_LABEL
from danlu.models import MODELS
from danlu.nn.divergence import divergence
from danlu.train import teacher as teachers
from danlu.train.launch import World
from danlu.train.samples import SampleBatches, Samples, in_order
from danlu.train.teacher import HeldTeacher, KeptTeacher, check_vocabularies, keep, mapped

TALKS = [
    ("say hi", "hello you"),
    ("what is two and two?", "four"),
    ("你好", "你好！"),
    ("name a colour", "red"),
    ("a", "b c d e f g"),
]


def samples(objective, talks=TALKS):
    documents = [document(number, messages=said("user", one) + said("assistant", two)) for number, (one, two) in enumerate(talks)]
    return Samples(encoded(objective, documents), [one.id for one in documents])


def model(seed=1, **changes):
    made = MODELS["qwen3"].tiny(vocab_size=chat_tokenizer().vocab_size + 5, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made


def kept(folder, objective, splits, judge, top=4, temperature=1.0, **more):
    known = chat_tokenizer().vocab_size
    made_from = {"teacher": "t", **more}
    return keep(splits, objective, lambda: judge, known, folder, made_from, World(), top=top, temperature=temperature,
                row_tokens=64, micro_tokens=100)  # fmt: skip


def distributions(teacher, batch):
    count = int((batch.targets != NO_LABEL).sum())
    return [teacher.on(batch)(slice(at, min(at + 3, count))) for at in range(0, count, 3)]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_all_from_disk_is_all_from_memory_in_any_batch(tmp_path, temperature):
    objective, judge, known = built("distill", temperature=temperature), model(), chat_tokenizer().vocab_size
    splits = {"train": samples(objective), "validation": samples(objective, TALKS[2:])}
    held = HeldTeacher(judge, known, temperature)
    disk = kept(tmp_path, objective, splits, judge, top=known, temperature=temperature)
    for part in splits.values():
        for size in (1, 2, 5):
            for batch in in_order(part, objective, size, 64):
                for one, two in zip(distributions(held, batch), distributions(disk, batch), strict=True):
                    torch.testing.assert_close(one.logp, two.logp, rtol=2e-3, atol=2e-3)
    batches = SampleBatches(splits["train"], objective, 3, 64, 50, seed=0)
    for step in range(3):
        for batch in batches.step(step):
            hidden = judge.hidden(batch.ids, documents_BT=batch.documents)[batch.targets != NO_LABEL]
            plain = (judge.logits(hidden).float()[:, :known] / temperature).log_softmax(-1)
            for one, rows in zip(distributions(disk, batch), plain.split(3), strict=True):
                torch.testing.assert_close(one.logp, rows, rtol=2e-3, atol=2e-3)


def test_the_likeliest_and_the_rest_add_up_and_are_the_teachers(tmp_path):
    objective, judge, known = built("distill"), model(), chat_tokenizer().vocab_size
    part = samples(objective)
    disk = kept(tmp_path, objective, {"train": part}, judge, top=4)
    batch = next(in_order(part, objective, 5, 64))
    whole = torch.cat([one.logp for one in distributions(HeldTeacher(judge, known, 1.0), batch)])
    found = distributions(disk, batch)
    logp, ids = torch.cat([one.logp for one in found]), torch.cat([one.ids for one in found])
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(len(logp)))
    torch.testing.assert_close(logp[:, :-1], whole.topk(4).values, rtol=2e-3, atol=2e-3)
    assert (whole.gather(1, ids) - whole.topk(4).values).abs().max() < 1e-5
    other = model(2)
    student = other.logits(other.hidden(batch.ids, documents_BT=batch.documents)[batch.targets != NO_LABEL])[:, :known]
    full, few = (torch.cat([divergence(rows, one, 0.0) for rows, one in zip(student.split(3), wanted, strict=True)])
                 for wanted in (distributions(HeldTeacher(judge, known, 1.0), batch), found))  # fmt: skip
    assert (few <= full + 1e-3).all() and few.sum() > 0.3 * full.sum()


def test_the_file_is_safetensors_and_known_by_what_it_was_made_from(tmp_path, monkeypatch):
    objective, judge = built("distill"), model()
    splits = {"train": samples(objective)}
    kept(tmp_path, objective, splits, judge)
    path = tmp_path / teachers.NAME
    with safe_open(path, "numpy") as file:
        for name, array in mapped(path).items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    before = path.stat().st_mtime_ns

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(teachers, "_put", never)
    again = {"train": samples(objective)}
    kept(tmp_path, objective, again, judge)
    assert path.stat().st_mtime_ns == before
    assert all((one.values.view(np.int32) == two.values.view(np.int32)).all()
               for one, two in zip(splits["train"].encoded, again["train"].encoded, strict=True))  # fmt: skip
    for change in ({"top": 5}, {"temperature": 2.0}, {"seen": 1}):
        with pytest.raises(AssertionError, match="computed again"):
            kept(tmp_path, objective, {"train": samples(objective)}, judge, **change)
    assert path.stat().st_mtime_ns == before and len(list(tmp_path.iterdir())) == 1
    path.write_bytes(path.read_bytes()[:-1])  # cut short: no file
    with pytest.raises(AssertionError, match="computed again"):
        kept(tmp_path, objective, {"train": samples(objective)}, judge)


def test_a_full_disk_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers.files, "free_bytes", lambda path: 10)
    with pytest.raises(NoSpace, match="what the teacher holds likely"):
        kept(tmp_path, built("distill"), {"train": samples(built("distill"))}, model())
    assert not list(tmp_path.iterdir())


def test_other_vocabularies_are_refused_by_the_first_token_that_differs(tmp_path):
    check_vocabularies(chat_tokenizer(), chat_tokenizer(), tmp_path)
    with pytest.raises(TokenizerMismatch, match="another vocabulary"):
        check_vocabularies(tiny_tokenizer("<|more|>"), tiny_tokenizer(), tmp_path)


def test_a_teacher_in_memory_learns_nothing():
    judge = model()
    held = HeldTeacher(judge, chat_tokenizer().vocab_size, 1.0)
    assert not any(parameter.requires_grad for parameter in judge.parameters()) and not judge.training
    batch = next(in_order(samples(built("distill")), built("distill"), 2, 64))
    assert not held.on(batch)(slice(0, 1)).logp.requires_grad


def test_numbers_beyond_what_float32_counts_exactly_stay_what_they_are():
    one = samples(built("distill")).encoded[0]
    start = 2**24 + 1
    asked = one.targets != NO_LABEL
    first, second = teachers._numbered([one, one], start)
    for numbered, begin in ((first, start), (second, start + asked.sum())):
        assert numbered.values.dtype == np.float32
        bits = torch.from_numpy(np.stack([numbered.values])).view(torch.int32)[0].numpy()
        np.testing.assert_array_equal(bits[asked], np.arange(begin, begin + asked.sum()))


def test_kept_is_read_where_it_lies(tmp_path):
    objective, part = built("distill"), samples(built("distill"))
    kept(tmp_path, objective, {"train": part}, model())
    assert all(isinstance(one, np.memmap) for one in KeptTeacher(tmp_path / teachers.NAME)._parts.values())
