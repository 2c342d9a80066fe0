"""A tokenizer: text to ids and back, exactly, whatever made its tokenizer.json.

Special tokens inside text stay text unless they are allowed by name. Opening reads one file; engines are made when used.
"""

import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core import files
from danlu.core.errors import BadInput, DamagedArtifact, NotAnArtifact, UnknownName
from danlu.core.machine import cores
from danlu.tokenizer import engines
from danlu.tokenizer.decoder import ByteDecoder, Decoder, PieceDecoder, byte_table, joins_bytes
from danlu.tokenizer.definition import MASK
from danlu.tokenizer.engines import Ids

NAME, CONFIG_NAME, SPECIAL_NAME, TEMPLATE_NAME = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip
GENERATION_NAME = "generation_config.json"
"""A model's file, which may name further tokens that end an answer."""
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token")
_TASK_BYTES = 1 << 18
"""Text handed to a thread at once when encoding many texts: large against the cost of handing it over."""


class Tokenizer:
    """Reads and writes the ids of one vocabulary. `Tokenizer.open(folder)`, or a trainer, makes one."""

    def __init__(self, definition: str, config: Mapping[str, Any] | None = None, chat_template: str | None = None,
                 ends: Collection[int] = ()):  # fmt: skip
        """definition: the text of tokenizer.json; config: the content of tokenizer_config.json.

        ends: tokens that end an answer beside that which ends a document.
        """
        self._also_ends = frozenset(ends)
        self.definition = definition
        self.config = dict(config or {})
        self.chat_template = chat_template or self.config.get("chat_template")

    @classmethod
    def build(cls, definition: Mapping[str, Any], special_tokens: Sequence[str] = (), **config: Any) -> "Tokenizer":
        """A new tokenizer from its definition; the first special token begins, ends and pads documents."""
        roles = dict.fromkeys(_ROLES[:3], special_tokens[0]) if special_tokens else {}
        roles |= {"mask_token": MASK} if MASK in special_tokens else {}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **roles,
                    "model_max_length": 10**30, **config}  # fmt: skip
        text = json.dumps(definition, ensure_ascii=False, indent=1) + "\n"
        return cls(text, settings)

    @classmethod
    def open(cls, folder: Path | str) -> "Tokenizer":
        """The tokenizer of a folder (tokenizer or model, Danlu's or transformers'). Raises NotAnArtifact, DamagedArtifact."""
        folder = Path(folder)
        path = folder / NAME
        if not path.is_file():
            raise NotAnArtifact(
                f"{folder} holds no {NAME}. Give a folder that `danlu tokenizer` or transformers' save_pretrained wrote; "
                f"a SentencePiece .model file must be converted with transformers first."
            )
        try:
            config = {**_read_json(folder / SPECIAL_NAME), **_read_json(folder / CONFIG_NAME)}
            template = folder / TEMPLATE_NAME
            said = _read_json(folder / GENERATION_NAME).get("eos_token_id")
            return cls(path.read_text(encoding="utf-8"), config,
                       template.read_text(encoding="utf-8") if template.is_file() else None,
                       [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, int)])  # fmt: skip
        except UnicodeDecodeError as error:
            raise DamagedArtifact(
                f"{path} is not UTF-8 text: {error}. Restore the folder or train the tokenizer again."
            ) from None

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json (and the chat template, where there is one)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stamp = {"engine": self.engine.name, "because": self.engine_reason, "sha256": self._sha256}
        config = {**self.config, "danlu": stamp}
        config.pop("chat_template", None)
        roles = {role: self._role(role) for role in _ROLES if self._role(role) is not None}
        files.write_text(folder / NAME, self.definition)
        files.write_text(folder / CONFIG_NAME, json.dumps(config, ensure_ascii=False, indent=1) + "\n")
        files.write_text(folder / SPECIAL_NAME, json.dumps(roles, ensure_ascii=False, indent=1) + "\n")
        if self.chat_template:
            files.write_text(folder / TEMPLATE_NAME, self.chat_template)

    # ---- what it is

    @functools.cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.definition.encode()).hexdigest()

    @property
    def id(self) -> str:
        """A hash of what it does: the same for the same tokenizer.json, 16 hex digits."""
        return self._sha256[:16]

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """tokenizer.json as a tree. Raises DamagedArtifact."""
        try:
            tree = json.loads(self.definition)
            return {"added_tokens": [], **tree, "model": dict(tree["model"])}
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedArtifact(f"{NAME} cannot be read: {error!r}. Restore the folder or train the tokenizer again.") from None

    @functools.cached_property
    def vocab(self) -> dict[str, int]:
        """Every entry as tokenizer.json writes it, special tokens included, with its id."""
        vocab = self.parts["model"]["vocab"]
        if isinstance(vocab, list):  # Unigram: [piece, score] in id order
            vocab = {piece: number for number, (piece, _) in enumerate(vocab)}
        return {**vocab, **{token["content"]: token["id"] for token in self.parts["added_tokens"]}}

    @functools.cached_property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: the largest id and one."""
        return max(self.vocab.values(), default=-1) + 1

    @functools.cached_property
    def special_tokens(self) -> dict[str, int]:
        """Tokens that ordinary text never becomes, by their names."""
        return {token["content"]: token["id"] for token in self.parts["added_tokens"] if token["special"]}

    @property
    def bos_id(self) -> int | None:
        """The token before a document."""
        return self._role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The token after a document."""
        return self._role_id("eos_token")

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer: that after a document, and those that the model beside it stops at."""
        return self._also_ends if self.eos_id is None else self._also_ends | {self.eos_id}

    @property
    def pad_id(self) -> int | None:
        """The token that fills rows."""
        return self._role_id("pad_token")

    @property
    def start_id(self) -> int:
        """The token that opens what a decoder writes: that before a document, else the filling, else that after a document."""
        known = [token for token in (self.bos_id, self.pad_id, self.eos_id) if token is not None]
        return known[0] if known else 0

    @property
    def mask_token(self) -> str | None:
        """The name of the token that stands where one was hidden."""
        return self._role("mask_token")

    @property
    def mask_id(self) -> int | None:
        """The token that stands where one was hidden."""
        return self._role_id("mask_token")

    def _role(self, role: str) -> str | None:
        value = self.config.get(role)
        return value["content"] if isinstance(value, dict) else value

    def _role_id(self, role: str) -> int | None:
        name = self._role(role)
        return None if name is None else self.vocab.get(name)

    # ---- text to ids

    @functools.cached_property
    def _chosen(self) -> tuple[engines.Engine, str]:
        stamp = self.config.get("danlu", {})
        proved = stamp.get("sha256") == self._sha256 and stamp.get("engine") == engines.Tiktoken.name
        return engines.choose(self.parts, proved)

    @property
    def engine(self) -> engines.Engine:
        """What encodes ordinary text."""
        return self._chosen[0]

    @property
    def engine_reason(self) -> str:
        """Why this engine was taken."""
        return self._chosen[1]

    def encode(self, text: str, allow_special: Collection[str] = ()) -> list[int]:
        """Ids of a text, nothing added before or after. Only special tokens named in `allow_special` are seen as such.

        Raises BadInput for lone surrogates and, where the vocabulary has no way to write them, unknown characters.
        """
        found: list[int] = self.encode_array(text, allow_special).tolist()
        return found

    def encode_array(self, text: str, allow_special: Collection[str] = ()) -> Ids:
        """`encode` as a uint32 array."""
        if not allow_special and not self._words:
            return self._ordinary(text)
        parts: list[Any] = []
        done = 0
        for match in self._search(frozenset(allow_special)).finditer(text):
            if match.start() > done:
                parts.append(self._ordinary(text[done : match.start()]))
            parts.append(np.array([self.vocab[match[match.lastindex or 0]]], np.uint32))
            done = match.end()
        if done < len(text):
            parts.append(self._ordinary(text[done:]))
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[Ids]:
        """Ids of many texts as uint32 arrays, all cores at work; special tokens in them stay text."""
        threads = threads or cores()
        tasks = list(_tasks(texts))
        if threads == 1 or len(tasks) < 2:
            return [self.encode_array(text) for text in texts]
        self.engine  # noqa: B018  # made once, before the threads ask for it
        with ThreadPoolExecutor(threads) as pool:
            done = pool.map(lambda task: [self.encode_array(text) for text in task], tasks)
            return [ids for task in done for ids in task]

    def _ordinary(self, text: str) -> Ids:
        try:
            return self.engine.encode(text)
        except UnicodeEncodeError as error:
            raise BadInput(
                f"character {error.start} of the text is a lone surrogate ({text[error.start]!r}), which no Unicode text holds. "
                f"Decode the source with errors='replace', or drop such characters first."
            ) from None

    @functools.cached_property
    def _words(self) -> frozenset[str]:
        """Added tokens that are ordinary words and must be found before the engine cuts; `tokenizers` finds them itself."""
        if self.engine.name == engines.Reference.name:
            return frozenset()
        return frozenset(token["content"] for token in self.parts["added_tokens"] if not token["special"])

    @functools.lru_cache(maxsize=64)  # noqa: B019  # a tokenizer lives as long as its process
    def _search(self, allowed: frozenset[str]) -> re.Pattern[str]:
        """Finds allowed special tokens and ordinary added words, the longest at each place, with the blanks they swallow."""
        for name in allowed:
            if name not in self.special_tokens:
                raise UnknownName("special token", name, self.special_tokens)
        added = {token["content"]: token for token in self.parts["added_tokens"]}
        names = sorted(allowed | self._words, key=lambda name: (-len(name), name))
        return re.compile("|".join([_token_pattern(added[name]) for name in names]))

    # ---- ids to text

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        return byte_table(self.parts, self.vocab, self.vocab_size)

    @functools.cached_property
    def joins_bytes(self) -> bool:
        """Whether a text is the bytes of its tokens, end to end."""
        return joins_bytes(self.parts)

    @functools.cached_property
    def reference(self) -> Any:
        """The same tokenizer as an object of the `tokenizers` library."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(self.definition)

    def token_bytes(self, number: int) -> bytes:
        """What a token stands for. Raises BadInput outside the vocabulary."""
        if not 0 <= number < self.vocab_size:
            raise BadInput(f"there is no token {number}: this vocabulary has ids 0 to {self.vocab_size - 1}.")
        return self._bytes[number]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens written out; bytes that form no character become U+FFFD. Raises BadInput."""
        numbers = [int(number) for number in ids]
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.vocab_size:
            wrong = next(number for number in numbers if not 0 <= number < self.vocab_size)
            raise BadInput(f"there is no token {wrong}: this vocabulary has ids 0 to {self.vocab_size - 1}.")
        if self.joins_bytes:
            table = self._bytes
            return b"".join([table[number] for number in numbers]).decode("utf-8", "replace")
        text: str = self.reference.decode(numbers, skip_special_tokens=False)
        return text

    def decoder(self) -> Decoder:
        """A decoder for one stream of ids: `push(id)` gives the whole characters known so far, `flush()` the rest."""
        return ByteDecoder(self.token_bytes) if self.joins_bytes else PieceDecoder(self.decode)

    def __len__(self) -> int:
        return self.vocab_size

    def __reduce__(self) -> Any:
        return Tokenizer, (self.definition, self.config, self.chat_template, self._also_ends)


def _tasks(texts: Sequence[str]) -> Iterable[Sequence[str]]:
    """Runs of texts worth a thread's while."""
    start, characters = 0, 0
    for at, text in enumerate(texts):
        characters += len(text)
        if characters >= _TASK_BYTES:
            yield texts[start : at + 1]
            start, characters = at + 1, 0
    if start < len(texts):
        yield texts[start:]


def _token_pattern(token: Mapping[str, Any]) -> str:
    """Where an added token stands: its name as the only group, around it what its flags ask for."""
    before, after = r"\s*" * token["lstrip"], r"\s*" * token["rstrip"]
    alone = (r"(?<!\w)", r"(?!\w)") if token["single_word"] else ("", "")
    return f"{before}{alone[0]}({re.escape(token['content'])}){alone[1]}{after}"


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedArtifact(f"{path} is not JSON: {error}. Restore the file or train the tokenizer again.") from None
    if not isinstance(tree, dict):
        raise DamagedArtifact(f"{path} holds {type(tree).__name__}, expected an object. Restore the file.")
    return tree
