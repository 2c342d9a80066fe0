"""New tokens for an existing vocabulary: they take the next ids, and everything else stays as it is.

An ordinary new token is found wherever its text stands; a special one only where it is allowed by name.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from danlu.core.errors import BadInput
from danlu.tokenizer.definition import to_characters
from danlu.tokenizer.tokenizer import Tokenizer

CONTROL = re.compile(
    r"<[|｜][^\s<>]+[|｜]>|<(?:s|/s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>|\[/?(?:INST|SYSTEM_PROMPT)\]"
)
"""How control tokens are written, which nobody means as text."""


def extend(tokenizer: Tokenizer, tokens: Sequence[str], special: bool | None = None) -> Tokenizer:
    """The tokenizer with these tokens behind its own, in this order. Its models must grow too (models/resize.py).

    special: whether they are control tokens; None: those that are written so, such as <|im_end|>.
    Raises BadInput for a token that is there already, stands twice, or is empty or blank.
    """
    _check(tokenizer, tokens)
    tree = json.loads(tokenizer.definition)
    first = tokenizer.vocab_size
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"content": token, **plain, "special": special if special is not None else CONTROL.fullmatch(token) is not None}
        for token in tokens
    ]
    numbered = [{"id": number, **token} for number, token in enumerate(added, first)]
    tree["added_tokens"] = [*(tree.get("added_tokens") or []), *numbered]
    config: dict[str, Any] = dict(tokenizer.config)
    if isinstance(config.get("added_tokens_decoder"), dict):  # a copy of added_tokens that transformers 4 writes
        more = {str(number): token for number, token in enumerate(added, first)}
        config["added_tokens_decoder"] = {**config["added_tokens_decoder"], **more}
    made = Tokenizer(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", config, tokenizer.chat_template, tokenizer.ends)
    for token, number in zip(tokens, range(first, first + len(tokens)), strict=True):
        found = made.reference.token_to_id(token)
        if found != number:
            raise BadInput(
                f"{token!r} would be token {number} here but {found} in the tokenizers library: the ids of this vocabulary have "
                f"gaps. Give a tokenizer whose ids run from 0 without any."
            )
    return made


def _check(tokenizer: Tokenizer, tokens: Sequence[str]) -> None:
    if not tokens:
        raise BadInput("no token to add.")
    wrong = [f"{token!r} is empty or blank" for token in tokens if not token.strip()]
    wrong += [f"{token!r} stands twice" for token in dict.fromkeys(tokens) if tokens.count(token) > 1]
    for token in dict.fromkeys(tokens):
        spelt = next((name for name in (token, to_characters(token.encode())) if name in tokenizer.vocab), None)
        if spelt is not None and tokenizer.decode([tokenizer.vocab[spelt]]) == token:
            wrong.append(f"{token!r} is token {tokenizer.vocab[spelt]} already")
    if wrong:
        raise BadInput("tokens that cannot be added: " + "; ".join(wrong) + ". Leave them out.")
