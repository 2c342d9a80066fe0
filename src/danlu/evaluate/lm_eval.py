"""lm-evaluation-harness drives a Danlu model: `import danlu.evaluate.lm_eval`, then `model="danlu", model_args="path=FOLDER"`.

From a shell: `python -m danlu.evaluate.lm_eval run --model danlu --model_args path=FOLDER --tasks ...` (everything behind the
module's name is lm-eval's own). What is computed is what `danlu evaluate --tasks` computes; questions that do not fit are cut at
their beginning, as lm-eval's models do, and counted in a warning. As there, names of special tokens in a text are such tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from danlu.core import log
from danlu.core.errors import BadInput, BadSettings, DanluError
from danlu.engine.heads import HeadedModel
from danlu.engine.model import load
from danlu.evaluate.foreseen import whole_nats
from danlu.evaluate.generation import ask_of
from danlu.evaluate.subject import EXACT, Pair, Subject
from danlu.tokenizer.chat import chosen, render, roles
from danlu.tokenizer.frame import frame

try:
    import lm_eval.models  # noqa: F401  # names its own models first: where none is named, ours would be all there are
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError:
    raise DanluError("lm-eval is not installed, and this module is only for it: pip install 'lm-eval>=0.4.13'") from None

_ALIASES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@register_model("danlu")
class DanluLM(TemplateLM):
    """model_args: path, weights (fp32, auto, bf16, int8, int4), add_bos_token, device; batch_size says how many at once."""

    def __init__(self, path: str, weights: str = "fp32", add_bos_token: bool | None = None, batch_size: int | str | None = None,
                 device: str | None = None, max_batch_size: int | None = None):  # fmt: skip
        super().__init__()
        there = torch.cuda.is_available() or not str(device or "").startswith("cuda")  # lm-eval asks for one unseen
        model = load(path, device if there else None)
        if isinstance(model, HeadedModel):
            raise BadInput(f"{path} has a head for {model.task} and writes nothing. Judge it with `danlu evaluate --data`.")
        rows = int(batch_size) if str(batch_size or "").isdigit() else EXACT.rows
        self.subject = Subject(model, EXACT.model_copy(update={"weights": weights, "rows": rows}))
        self.tokenizer = model.tokenizer
        self._special = frozenset(model.tokenizer.special_tokens)
        self._add_bos = add_bos_token
        self._device = model.model.device

    # ---- tokens

    @property
    def eot_token_id(self) -> int:
        found = self.tokenizer.eos_id
        return self.subject.prefix if found is None else found

    @property
    def prefix_token_id(self) -> int:
        return self.subject.prefix

    @property
    def max_length(self) -> int:
        """Most tokens of a question and its answer."""
        return self.subject.context

    @property
    def tokenizer_name(self) -> str:
        return f"danlu-{self.tokenizer.id}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids; before them what the tokenizer itself puts there, or, asked for by add_bos_token, the token of a beginning."""
        ids = self.tokenizer.encode(string, allow_special=self._special)
        if add_special_tokens is False or self._add_bos is False:
            return ids
        if self._add_bos:
            begin = [self.subject.prefix]
        else:
            begin = list(frame(self.tokenizer)[0]) if self.tokenizer.parts.get("post_processor") is not None else []
        return ids if ids[: len(begin)] == begin else [*begin, *ids]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm-eval's records."""
        return chosen(self.tokenizer.chat_template, False) if chat_template and self.tokenizer.chat_template else None

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation; without a prompt for the answer, the last message is left open."""
        template = self.tokenizer.chat_template
        if not template:
            raise BadInput(f"{self.subject.model.path} has no chat template. Leave --apply_chat_template out.")
        text = render(template, chat_history, add_generation_prompt, **roles(self.tokenizer))
        last = chat_history[-1]["content"]
        return text if add_generation_prompt else text[: text.rindex(last.strip()) + len(last.strip())]

    # ---- questions

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False,
                              **_: Any) -> list[tuple[float, bool]]:  # fmt: skip
        pairs = [Pair(*self._cut(before, after)) for _, before, after in requests]
        self._tell_cut(sum(len(pair.before) < len(before) for pair, (_, before, _) in zip(pairs, requests, strict=True)))
        found = [(one.nats, one.greedy) for one in self.subject.likelihoods(pairs)]
        for (key, *_), answer in zip(requests, found, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return found

    def _cut(self, before: Sequence[int], after: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        room = self.max_length + 1 - len(after)
        if room < 1:
            raise BadInput(f"a continuation of {len(after)} tokens does not fit the context of {self.max_length}.")
        return tuple(before[-room:]), tuple(after)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """See lm-eval's LM."""
        found = []
        for request in requests:
            (text,) = request.args
            found.append(whole_nats(self.subject, self.tok_encode(text)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), found[-1])
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """See lm-eval's LM."""
        groups: dict[str, list[int]] = {}
        for at, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(at)
        found: dict[int, str] = {}
        for places in groups.values():
            told = requests[places[0]].args[1]
            ask = ask_of(_renamed(told), "", f"generation_kwargs {told}")
            most = self.max_length - ask.room
            if most < 1:
                raise BadSettings(f"answers of up to {ask.room} tokens leave no room for a question in a context of "
                                  f"{self.max_length}. Say --gen_kwargs max_gen_toks=N.")  # fmt: skip
            asked = [self.tok_encode(requests[at].args[0]) or [self.subject.prefix] for at in places]
            self._tell_cut(sum(len(ids) > most for ids in asked))
            answers = self.subject.answers([ids[-most:] for ids in asked], ask.sampling, ask.room)
            for at, answer in zip(places, answers, strict=True):
                found[at] = answer.text
                self.cache_hook.add_partial("generate_until", requests[at].args, answer.text)
        return [found[at] for at in range(len(requests))]

    def _tell_cut(self, count: int) -> None:
        if count:
            log.warn(f"{count} question(s) do not fit the context of {self.max_length} tokens and were cut at their beginning")


def _renamed(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an answer under the names that are read here; lm-eval has several for the number of tokens."""
    found = {key: value for key, value in told.items() if key not in _ALIASES}
    said = [told[key] for key in _ALIASES if told.get(key) is not None]
    return {"until": [], **found, **({"max_gen_toks": said[0]} if said else {})}


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
