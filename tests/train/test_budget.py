"""Laws of the budget dial: it spends what it may, obeys what is fixed, explains itself, and repeats itself."""

import json

import numpy as np
import pytest

from danlu.core.errors import BadSettings
from danlu.core.units import Budget
from danlu.models import MODELS
from danlu.tokenizer.trainers import TRAINERS
from danlu.train import corpus, law
from danlu.train.budget import choose, heads, inner_width
from danlu.train.cost import Shape
from danlu.train.optimisers import OPTIMISERS
from danlu.train.plan import Corpus, Fixed, Pace, Plan
from danlu.train.schedules import SCHEDULES

PACE = Pace(
    threads=2,
    matmul_flops={"float32": 2e11, "bfloat16": 4e11},
    bandwidth=3e10,
    layer_s=1e-3,
    flop_s=1e-11,
    element_s=1e-9,
    update_s=1e-11,
    parameter_s=1e-9,
    memory_bytes=24 * 10**9,
)
TEXT = Corpus(
    train_bytes=3_000_000, documents=70, bytes_per_token={384: 1.8, 512: 2.1, 1024: 2.7, 2048: 3.2, 4096: 3.7, 8192: 4.1}
)


def plan(budget="3m", text=TEXT, pace=PACE, **fixed):
    return choose(Budget.parse(budget), text, pace, Fixed(**fixed))


@pytest.mark.parametrize("budget", ["20s", "1m", "3m", "10m", "2h"])
def test_a_time_budget_is_spent_but_not_exceeded(budget):
    chosen = plan(budget)
    assert 0.9 * chosen.budget.amount < chosen.seconds <= chosen.budget.amount
    assert chosen.seconds == pytest.approx(chosen.steps * chosen.step_s)


def test_a_step_never_takes_more_than_the_text_gives():
    tiny = TEXT.model_copy(update={"train_bytes": 20_000})
    for chosen in (plan(text=tiny, steps=2), plan("10m", text=tiny), plan("1m tokens", text=tiny)):
        assert chosen.rows * chosen.row_tokens * TEXT.bytes_per_token[chosen.vocab_size] <= 10_000
    assert plan(text=tiny, steps=2, rows=1024, row_tokens=128).rows == 1024, "what is fixed is obeyed"


def test_rows_longer_than_any_of_the_grid_are_planned():
    assert plan("2h", row_tokens=32_768).rows == 4
    assert plan("10m", text=TEXT.model_copy(update={"train_bytes": 20_000}), row_tokens=1024, steps=3).rows == 5


def test_tables_forget_only_text_that_comes_again():
    once, often = plan("30s").optimiser, plan("30m").optimiser
    assert once["table_decay"] == 0 < often["table_decay"]
    assert plan("30m", forgets=False).optimiser["table_decay"] == 0
    assert plan("30m", optimiser={"name": "muon", "table_decay": 0.5}).optimiser["table_decay"] == 0.5
    assert "table_decay" in " ".join(plan("30m").reasons)


def test_rows_are_no_longer_than_a_given_context():
    free, bound = plan("2h"), plan("2h", model={"name": "qwen3", "max_position_embeddings": 200})
    assert bound.row_tokens == 128 < free.row_tokens and bound.model["max_position_embeddings"] == 200
    assert plan("1m", model={"name": "gpt2", "n_positions": 48}).row_tokens == 48


def test_measuring_counts_as_spent():
    whole, rest = choose(Budget(60, "seconds"), TEXT, PACE), choose(Budget(60, "seconds"), TEXT, PACE, spent_s=10)
    assert rest.seconds <= 50 < whole.seconds


def test_measuring_longer_than_the_budget_still_leaves_most_of_it():
    assert choose(Budget(10, "seconds"), TEXT, PACE, spent_s=30).seconds > 6


def test_budgets_of_tokens_and_operations_are_kept_to_a_step():
    tokens = plan("700k tokens")
    assert 0 <= 700_000 - tokens.tokens < tokens.rows * tokens.row_tokens
    flops = plan("1e13 flops")
    assert 0 <= 1e13 - flops.flops < flops.flops / flops.steps


def test_operations_choose_the_same_model_on_a_slower_machine():
    slow = PACE.model_copy(update={name: getattr(PACE, name) * 7 for name in ("layer_s", "flop_s", "element_s", "update_s")})
    assert plan("1e14 flops").model == plan("1e14 flops", pace=slow).model


def test_more_budget_never_ends_higher_and_wants_more_model():
    plans = [plan(budget) for budget in ("30s", "2m", "10m", "1h")]
    assert [one.bits_per_byte for one in plans] == sorted((one.bits_per_byte for one in plans), reverse=True)
    assert [one.parameters for one in plans] == sorted(one.parameters for one in plans)


def test_more_text_never_ends_higher():
    losses = [plan("20m", TEXT.model_copy(update={"train_bytes": size})).bits_per_byte for size in (10**5, 10**6, 10**8)]
    assert losses == sorted(losses, reverse=True)


def test_the_same_measurements_give_the_same_plan():
    assert plan() == plan()


def test_a_plan_travels_as_json():
    chosen = plan()
    assert Plan(**json.loads(json.dumps(chosen.model_dump(mode="json")))) == chosen


def test_what_is_fixed_stays():
    chosen = plan(
        model={"name": "qwen3", "hidden_size": 80, "num_attention_heads": 5},
        row_tokens=96,
        rows=7,
        vocab_size=1024,
        optimiser={"name": "muon", "learning_rate": 0.007},
        schedule={"name": "wsd", "decay": 0.25},
        dtype="bfloat16",
        threads=1,
    )
    assert (chosen.model["hidden_size"], chosen.model["num_attention_heads"]) == (80, 5)
    assert (chosen.row_tokens, chosen.rows, chosen.vocab_size) == (96, 7, 1024)
    assert chosen.optimiser["learning_rate"] == 0.007 and chosen.schedule["decay"] == 0.25
    assert (chosen.dtype, chosen.threads) == ("bfloat16", 1)


def test_fixed_steps_rule_over_the_budget():
    assert plan("1m", steps=37).steps == 37


def test_fixed_steps_fit_into_the_budget_where_they_can():
    few, many = plan("1m", steps=37), plan("1m", steps=4000)
    assert few.seconds <= 60 and many.seconds <= 60
    assert few.parameters <= many.parameters, "a few steps are not worth a large model"
    assert plan("10m", steps=3).parameters < 1e6
    assert plan("10s", steps=10**6).steps == 10**6, "nothing is quick enough: the quickest"


def test_processes_share_a_step():
    assert plan(processes=3).rows >= 3


@pytest.mark.parametrize("family", MODELS.names())
def test_every_family_gets_sizes_it_understands(family):
    chosen = plan("1m", model={"name": family})
    config = MODELS[family].Config(**chosen.model)
    assert config.vocab_size == chosen.vocab_size and config.context == chosen.row_tokens


@pytest.mark.parametrize("optimiser", OPTIMISERS.names())
@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_every_optimiser_and_schedule_gets_settings_it_understands(optimiser, schedule):
    chosen = plan("1m", optimiser={"name": optimiser}, schedule={"name": schedule})
    assert OPTIMISERS[optimiser].Config(**chosen.optimiser).learning_rate > 0
    assert SCHEDULES[schedule].Config(**chosen.schedule).name == schedule


def test_a_given_tokenizer_leaves_its_vocabulary():
    assert plan(text=Corpus(train_bytes=10**6, documents=5, bytes_per_token={777: 2.5})).vocab_size == 777


def test_reasons_name_every_choice():
    text = "\n".join(plan().reasons)
    for word in ("layers", "vocabulary", "rows", "steps", "muon", "memory", "text", "threads"):
        assert word in text


def test_a_budget_for_nothing_says_what_to_do():
    with pytest.raises(BadSettings, match="larger --budget"):
        plan("0.001s")


@pytest.mark.parametrize("model", [{}, {"name": "qwen3"}, {"name": "gpt_neox"}])
def test_plans_fit_into_memory_whether_a_family_is_named_or_not(model):
    tight = PACE.model_copy(update={"memory_bytes": 3 * 10**8, "resident_bytes": 10**8})
    assert plan("10h", pace=tight, model=model).memory_bytes < 3 * 10**8


def test_micro_batches_cover_a_step():
    chosen = plan(rows=10, micro_rows=4)
    assert chosen.micro_batches == 3


def test_inner_width_and_heads_divide():
    for width in (32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024):
        assert inner_width(width) % 32 == 0 and inner_width(width) >= 8 * width / 3
        assert width % heads(width) == 0 and (width // heads(width)) % 2 == 0


def test_repeated_text_is_worth_less_each_time():
    fresh = [law.worth(read, 1e6) for read in np.linspace(1e6, 60e6, 30)]
    gains = np.diff(fresh)
    assert (gains > 0).all() and (np.diff(gains) < 0).all()
    assert law.worth(7e5, 1e6) == 7e5


def test_the_law_rewards_weights_text_and_context():
    def bits(width=128, tokens=1e6, row=128, step=1024):
        return law.bits_per_byte(Shape(width, inner_width(width), 3, 4, 1024), tokens, step, row, TEXT)

    assert bits(width=256) < bits()
    assert bits(tokens=2e6) < bits()
    assert bits(row=1024) > bits()
    assert bits(step=65536) > bits()


def test_vocabulary_curve_is_that_of_tokenizers_trained_to_each_size():
    words = [f"{a}{b}{c} " for a in ("ta", "ki", "mo", "re") for b in ("lan", "du", "shi", "fo") for c in ("", "s", "ed", "ing")]
    order = np.random.default_rng(0).integers(len(words), size=30_000)
    pieces = corpus.sample(["".join(words[at] for at in order)], 150_000, 10**6)
    curve = corpus.describe(pieces, 150_000, 1).bytes_per_token
    sizes = sorted(curve)
    assert [curve[size] for size in sizes] == sorted(curve.values())
    largest = corpus._largest(pieces, 150_000)
    alone = TRAINERS.build(TRAINERS["bpe"].Config()).train(pieces, vocab_size=sizes[0])
    cut = corpus.prefix(largest, sizes[0])
    assert cut.vocab_size == sizes[0]
    assert cut.encode(pieces[0]) == alone.encode(pieces[0])


def test_a_text_too_small_for_any_vocabulary_still_has_bytes():
    found = corpus.describe(["danlu"], 5, 1)
    assert list(found.bytes_per_token) == [TRAINERS.build(TRAINERS["bytes"].Config()).train(["danlu"]).vocab_size]


def test_vocabularies_too_small_and_too_large_both_cost_and_the_best_grows_with_the_text():
    def bits(vocab, tokens):
        return law.bits_per_byte(Shape(128, 352, 2, 4, vocab), tokens, 2048, 128, TEXT)

    assert bits(2048, 1e6) < bits(512, 1e6)
    assert law.best_vocabulary(3000) > law.best_vocabulary(3) == law.VOCABULARY
