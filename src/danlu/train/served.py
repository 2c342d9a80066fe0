"""Whether a sample's tokens and targets are those that serving reads and writes: everything is rendered and encoded anew.

Knows nothing of how samples are made, so that it can judge them. T tokens of a text, W of its whole conversation.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import DanluError
from danlu.core.labels import NO_LABEL
from danlu.data.shards import Document
from danlu.objectives.answers import Messages, messages_of, tools_of
from danlu.objectives.labelled import Encoded
from danlu.tokenizer.chat import encode_chat, knows_tools, render, roles, turn_ends
from danlu.tokenizer.tokenizer import Tokenizer

Array = NDArray[Any]


@dataclass(frozen=True)
class Conversation:
    """What a text of a sample was made from."""

    messages: Messages
    tools: Messages | None
    first: int
    """The assistant's messages from this one on may be learned."""


def conversations(document: Document) -> list[Conversation]:
    """The conversations of a sample in the order of its columns: one, or the chosen and the rejected; none for bare prompts."""
    sample, tools = document.sample, tools_of(document)
    if "messages" in sample:
        return [Conversation(messages_of(document, "messages"), tools, 0)]
    asked = messages_of(document, "prompt")
    return [
        Conversation([*asked, *messages_of(document, column)], tools, len(asked))
        for column in ("chosen", "rejected", "completion")
        if column in sample
    ]


def closes(tokenizer: Tokenizer, template: str) -> frozenset[int]:
    """Special tokens that end what an assistant says; where there are tools, also those that end a call. Raises BadInput."""
    found = set(turn_ends(tokenizer, template))
    asked: Messages = [{"role": "user", "content": "question"}]
    answers: list[dict[str, Any]] = [{"content": "answer"}]
    if knows_tools(template):
        call = {"id": "abcdefghi", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
        answers.append({"content": "", "tool_calls": [call]})
    special = frozenset(tokenizer.special_tokens.values())
    for answer in answers:
        try:
            prompt = encode_chat(tokenizer, template, asked)
            whole = encode_chat(tokenizer, template, [*asked, {"role": "assistant", **answer}], add_generation_prompt=False)
        except DanluError:
            continue  # a template without calls, or with conditions of its own
        if (tail := [token for token in whole[len(prompt) :] if token in special]) and whole[: len(prompt)] == prompt:
            found.add(tail[0] if answer["content"] else tail[-1])
    return frozenset(found)


def differences(
    parts: Sequence[Encoded], talks: Sequence[Conversation], tokenizer: Tokenizer, closing: frozenset[int], may_be_cut: bool
) -> Iterator[tuple[str, str]]:
    """What of a sample's parts is not as it will be served: a kind, and the same in words.

    Several parts are lessons on turns of one conversation, each up to its turn. Texts behind those of the sample's own
    conversations are an objective's (the strange answers of KTO) and are not looked at.
    """
    for one in parts:
        texts = [one.documents == text for text in range(int(one.documents[-1]) + 1)]
        if len(texts) < len(talks):
            yield "texts", f"the sample became {len(texts)} text(s), and holds {len(talks)} conversation(s)."
            return
        for text, talk in zip(texts, talks, strict=False):
            ids, targets = one.ids[text], one.targets[text]
            if len(parts) > 1:
                talk = _up_to(ids, talk, tokenizer)
            yield from _difference(ids, targets, talk, tokenizer, closing, may_be_cut and one.cut)


def _up_to(ids_T: Array, talk: Conversation, tokenizer: Tokenizer) -> Conversation:
    """The beginning of a conversation, up to an answer, that these tokens are; the whole where they are none."""
    for at, message in enumerate(talk.messages):
        part = Conversation(talk.messages[: at + 1], talk.tools, talk.first)
        if message["role"] == "assistant" and np.array_equal(_whole(part, tokenizer)[: len(ids_T)], ids_T):
            return part
    return talk


def _whole(talk: Conversation, tokenizer: Tokenizer) -> Array:
    """The ids of a conversation as serving would write them."""
    template = str(tokenizer.chat_template)
    return np.array(encode_chat(tokenizer, template, talk.messages, talk.tools, add_generation_prompt=False), np.int64)


def _difference(
    ids_T: Array, targets_T: Array, talk: Conversation, tokenizer: Tokenizer, closing: frozenset[int], may_be_cut: bool
) -> Iterator[tuple[str, str]]:
    template = str(tokenizer.chat_template)
    whole_W, prompts = _whole(talk, tokenizer), _prompts(talk, tokenizer, template)
    as_others_read = _as_others_read(whole_W, talk, tokenizer, template)
    if _is_cut_at_prompt(ids_T, whole_W, prompts, tokenizer):
        whole_W = np.append(ids_T, targets_T[-1:])
    if not np.array_equal(whole_W[: len(ids_T)], ids_T):
        at = next((at for at, (own, served) in enumerate(zip(ids_T, whole_W)) if own != served), len(whole_W))
        yield (
            "template",
            (
                f"training reads other tokens than serving from token {at} on: {_piece(tokenizer, ids_T, at)} here, "
                f"{_piece(tokenizer, whole_W, at)} there. The template or tokenizer is not that of serving: use the one that "
                f"lies beside the model."
            ),
        )
        return
    if not as_others_read:
        yield (
            "library",
            (
                "transformers' rules give other ids for the rendered conversation, so other tools would ask otherwise. Train the "
                "tokenizer again, or report this."
            ),
        )
    lost = 0 if may_be_cut else max(_last_end(whole_W, closing) - len(ids_T), 0)
    if lost:
        yield (
            "cut",
            (
                f"{lost} of the conversation's {len(whole_W)} tokens are missing at its end, and nobody asked for that. Say "
                f"--overlong truncate if it is meant, or drop or split."
            ),
        )
    for start, _ in stretches(targets_T):
        prompt = prompts.get(start + 1)
        if prompt is None:
            yield (
                "targets",
                (
                    f"taught tokens begin at token {start + 1}, {_piece(tokenizer, whole_W, start + 1)}, where serving begins no "
                    f"answer: the model would learn what others say, or to go on from prompts that it never sees."
                ),
            )
            return
        if not np.array_equal(whole_W[: start + 1], prompt):
            yield (
                "prompt",
                (
                    f"what serving sends before the answer at token {start + 1} is not how the conversation begins in training: "
                    f"the template changes earlier turns. Give it a conversation that it keeps, or learn the last turn alone."
                ),
            )
            return
    asked = np.flatnonzero(targets_T != NO_LABEL)
    wrong = [at for at in asked if at + 1 >= len(whole_W) or targets_T[at] != whole_W[at + 1]]
    if wrong:
        yield "targets", f"token {wrong[0]} asks for another token than the conversation has next."


def _is_cut_at_prompt(ids_T: Array, whole_W: Array, prompts: Mapping[int, Array], tokenizer: Tokenizer) -> bool:
    """Whether the same text was encoded in two pieces, the last prompt and its answer, because serving sends the prompt alone."""
    if not prompts or np.array_equal(whole_W[: len(ids_T)], ids_T):
        return False
    last = prompts[max(prompts)]
    same = tokenizer.decode(whole_W.tolist()).startswith(tokenizer.decode(ids_T.tolist()))
    return bool(np.array_equal(ids_T[: len(last)], last)) and same


def _last_end(whole_W: Array, closing: frozenset[int]) -> int:
    """Place of the last token that ends a turn; a sample that has all before it has its whole conversation."""
    ends = np.flatnonzero(np.isin(whole_W, sorted(closing)))
    return int(ends[-1]) if len(ends) else len(whole_W) - 1


def _prompts(talk: Conversation, tokenizer: Tokenizer, template: str) -> dict[int, Array]:
    """What serving sends before each answer, by its length."""
    found = [
        np.array(encode_chat(tokenizer, template, talk.messages[:at], talk.tools), np.int64)
        for at, message in enumerate(talk.messages)
        if at and message["role"] == "assistant" and at >= talk.first
    ]
    return {len(prompt): prompt for prompt in found}


def _as_others_read(whole_W: Array, talk: Conversation, tokenizer: Tokenizer, template: str) -> bool:
    """Whether the ids are those of the rendered text by the rules of transformers: no special token added, none lost.

    Where somebody wrote the name of an added token, transformers makes that token of it and serving here never does: no case.
    """
    said = json.dumps([talk.messages, talk.tools], ensure_ascii=False)
    if any(token["content"] in said for token in tokenizer.parts["added_tokens"]):
        return True
    text = render(template, [_spoken(message) for message in talk.messages], False, talk.tools, **roles(tokenizer))
    return np.array_equal(tokenizer.reference.encode(text, add_special_tokens=False).ids, whole_W)


def _spoken(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: arguments of calls as objects."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        if isinstance(call.get("function", {}).get("arguments"), str)
        else call
        for call in message.get("tool_calls") or []
    ]
    return {**message, **({"tool_calls": calls} if calls else {})}


def stretches(targets_T: Array) -> list[tuple[int, int]]:
    """First and last place of each run of targets.

    >>> stretches(np.array([-100, 1, 2, -100, 4]))
    [(1, 2), (4, 4)]
    """
    edge = np.diff(np.concatenate([[0], (targets_T != NO_LABEL).astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edge == 1).tolist(), (np.flatnonzero(edge == -1) - 1).tolist(), strict=True))


def _piece(tokenizer: Tokenizer, ids: Array, at: int) -> str:
    """A few tokens from a place on, as text."""
    return repr(tokenizer.decode(ids[at : at + 6].tolist())) if at < len(ids) else "nothing"
