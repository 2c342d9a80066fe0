"""Sums of one figure as a task for policies, and a model that was taught them, more often than not with a bad habit."""

import json
import random
from functools import cache

import torch
import torch.nn.functional as F
from tests.tiny import tiny_tokenizer

from danlu.data.shards import Document
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.tokenizer.chat import CHATML, encode_chat
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import with_template
from danlu.train.answering import Rollouts
from danlu.train.checkpoint import Checkpoints
from danlu.train.guard import Guard, GuardSettings
from danlu.train.horizon import Horizon
from danlu.train.launch import World
from danlu.train.loop import Run
from danlu.train.online import online
from danlu.train.optimisers import OPTIMISERS
from danlu.train.parallel import Parallel
from danlu.train.rewards import REWARDS
from danlu.train.schedules import SCHEDULES


@cache
def tokenizer() -> Tokenizer:
    made = tiny_tokenizer()
    return with_template(made, CHATML)


def sums(most=9):
    return [(a, b) for a in range(most + 1) for b in range(most + 1)]


def prompt(a, b):
    return [{"role": "user", "content": f"{a}+{b}"}]


def documents(pairs):
    return [
        Document(
            str(at),
            "made",
            "sums.jsonl",
            at + 1,
            "",
            sample={"prompt": json.dumps(prompt(a, b)), "answer": str(a + b), "tools": ""},
        )
        for at, (a, b) in enumerate(pairs)
    ]


def model(width=32, layers=2, seed=0, family="llama", context=64):
    torch.manual_seed(seed)
    config = MODELS[family].Config(
        vocab_size=tokenizer().vocab_size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=context, bos_token_id=0, eos_token_id=0,
        initializer_range=0.1,
    )  # fmt: skip
    return MODELS[family](config, seed)


def teach(made, steps, pairs, batch=32, rate=3e-3, seed=0, habit=0.0):
    """Some steps of plain next-token training on answers, a part of which has an exclamation mark that no reward likes."""
    rng, optimiser = random.Random(seed), torch.optim.AdamW(made.parameters(), rate)
    end = tokenizer().special_tokens["<|im_end|>"]
    for _ in range(steps):
        rows = []
        for a, b in rng.choices(pairs, k=batch):
            said = f"{a + b}!" if rng.random() < habit else str(a + b)
            before = encode_chat(tokenizer(), CHATML, prompt(a, b))
            rows.append((before, [*tokenizer().encode(said), end]))
        width = max(len(before) + len(after) for before, after in rows)
        ids, targets = torch.zeros(batch, width, dtype=torch.long), torch.full((batch, width), -100)
        for row, (before, after) in enumerate(rows):
            whole = before + after
            ids[row, : len(whole)] = torch.tensor(whole)
            targets[row, len(before) - 1 : len(whole) - 1] = torch.tensor(after)
        loss = F.cross_entropy(made(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return made


def policy_run(folder, made, name="grpo", pairs=None, steps=8, seed=0, world=None, rate=1e-3, watchers=(), rollouts=None,
               heldout=(), worth=({"name": "exact"},), micro_tokens=4096, **objective) -> Run:  # fmt: skip
    world = world or World()
    wanted = OBJECTIVES.build(OBJECTIVES[name].Config(**objective), tokenizer())
    settings = Rollouts(**{"prompts": 6, "answers": 4, "max_tokens": 4, **(rollouts or {})})
    mix = [REWARDS[one["name"]].Config(**{key: value for key, value in one.items() if key != "name"}) for one in worth]
    split = {"train": documents(pairs or sums()), **({"validation": documents(heldout)} if heldout else {})}
    made.train()
    module, batches = online(made, tokenizer(), wanted, split, mix, settings, folder=folder, world=world, seed=seed,
                             row_tokens=64, micro_tokens=micro_tokens)  # fmt: skip
    parallel = Parallel(module, wanted, world)
    moved = [(name, part) for name, part in module.named_parameters() if part.requires_grad]
    return Run(
        parallel=parallel, batches=batches, seed=seed, watchers=watchers, folder=folder,
        optimiser=OPTIMISERS.build(OPTIMISERS["adamw"].Config(learning_rate=rate), moved),
        schedule=SCHEDULES.build(SCHEDULES["wsd"].Config()),
        horizon=Horizon(folder / "horizon.json", steps), checkpoints=Checkpoints(folder / "checkpoints", world, 2),
        guard=Guard(GuardSettings(action="off"), folder / "guard.json", writes=world.first),
    )  # fmt: skip
