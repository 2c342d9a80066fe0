"""Which labelled samples a step trains on: every one once an epoch, the same whatever shares the work, packed whole."""

import numpy as np
import pytest
from tests.tiny import tiny_tokenizer

from danlu.core.errors import BadInput, BadSettings, DatasetTooSmall
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Overlong
from danlu.train.samples import SampleBatches, in_order, pack, read

TEXTS = ["a", "two words", "丹炉", "a somewhat longer text", "fire", "ore and fire", "x" * 20]


def documents(count=23):
    return [Document(f"d{at}", "s", f"f{at % 2}.tsv", at, TEXTS[at % 7] + str(at), sample={"label": "ab"[at % 2]})
            for at in range(count)]  # fmt: skip


def made(objective="classify", most=40, overlong: Overlong = "raise", count=23):
    built = OBJECTIVES.build(OBJECTIVES[objective].Config())
    found = documents(count)
    built.learn(found)
    frame = Frame(tiny_tokenizer(), False, most, first=False)
    return built, read(found, count, built, frame, overlong)


def batches(objective="classify", rank=0, processes=1, size=5, **settings):
    built, samples = made(objective)
    return SampleBatches(samples, built, size, 48, 64, seed=9, rank=rank, processes=processes, **settings)


def test_an_epoch_holds_every_sample_once_and_the_next_another_order():
    run = batches()
    numbers = [sample for step in range(23) for sample, _ in run.numbers(step)]  # five epochs of 23
    for epoch in range(5):
        assert sorted(numbers[23 * epoch : 23 * epoch + 23]) == list(range(23))
    assert numbers[:23] != numbers[23:46]
    assert run.numbers(3) == batches().numbers(3)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_a_step_without_loss(processes):
    whole = sorted(sample for sample, _ in batches().numbers(4))
    shares = [batches(rank=rank, processes=processes).step(4) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1  # sharded models wait for one another
    origins = sorted(int(row[0]) for share in shares for batch in share for rows in batch.origin for row in rows)
    assert origins == whole


def test_a_batch_holds_its_samples_whole_and_the_rest_asks_for_nothing():
    built, samples = made()
    batch = pack(built, [(at, samples.encoded[at]) for at in range(9)], row_tokens=48)
    assert batch.target_count == 9 and batch.read_count == int(samples.lengths[:9].sum())
    for ids, targets, documents_T, origin in zip(batch.ids, batch.targets, batch.documents, batch.origin, strict=True):
        for number, (sample, _, length) in enumerate(origin.tolist()):
            mine = documents_T == number
            assert ids[mine].tolist() == samples.encoded[sample].ids.tolist() and int(mine.sum()) == length
            assert targets[mine].tolist() == samples.encoded[sample].targets.tolist()
        assert (targets[documents_T >= len(origin)] == -100).all()
        assert (documents_T[1:] >= documents_T[:-1]).all()


def test_partners_stand_beside_each_other_and_share_a_label():
    run = batches("contrast", size=6)
    (batch,) = run.step(2)
    for ids, documents_T, origin in zip(batch.ids, batch.documents, batch.origin, strict=True):
        for number in range(0, len(origin), 2):  # a pair is named after the sample whose partner was looked for
            one, two = (ids[documents_T == number + at].tolist() for at in (0, 1))
            assert origin[number, 0] == origin[number + 1, 0] and one == run.samples.encoded[origin[number, 0]].ids.tolist()
            assert one != two
    marks = batch.targets[batch.values > 0]
    assert len(marks) == 12 and (marks[::2] == marks[1::2]).all()


def test_judging_reads_every_sample_once_in_order():
    built, samples = made()
    origins = [int(row[0]) for batch in in_order(samples, built, 4, 48) for rows in batch.origin for row in rows]
    assert sorted(origins) == list(range(23))


@pytest.mark.parametrize(
    ("overlong", "counted"), [("drop", {"dropped": 5, "parts": 18}), ("truncate", {"truncated": 5, "parts": 23})]
)
def test_overlong_samples_are_counted(overlong, counted):
    _, samples = made(most=22, overlong=overlong)
    assert {name: samples.ledger[name] for name in counted} == counted and samples.ledger["samples"] == 23
    assert samples.lengths.max() <= 22


def test_an_overlong_sample_stops_with_its_line_and_what_to_do():
    with pytest.raises(BadInput, match=r"f1\.tsv:3 .*24 tokens.*sees 22 at once.*--overlong drop"):
        made(most=22)
    with pytest.raises(BadSettings, match="belongs to the whole text"):
        made(most=22, overlong="split")


def test_too_few_samples_are_refused():
    built, samples = made(count=2)
    samples.encoded = samples.encoded[:1]
    with pytest.raises(DatasetTooSmall, match="1 sample"):
        SampleBatches(samples, built, 2, 48, 64, seed=0)
    assert np.array_equal(made(count=2)[1].groups, [0, 1])
