"""A model that was trained on nothing and yet writes the same good text for ever: by its weights each byte is followed by the one
that follows it in TEXT. Its attention is random and weak, so that probabilities still depend on the whole prompt.

Checks of protocol need such text: letters, two, three and four bytes a character, no byte twice, an end now and then by chance.
"""

from pathlib import Path

import torch
from tests.tiny import tiny_tokenizer

from danlu.tokenizer.chat import CHATML

TEXT = "Hi 😀,é!中文."
CONTEXT = 2048
_WIDTH = 320
_SURE, _END, _NOISE, _WEAK = 12.0, 9.0, 1.0, 0.3


def write_speaker(folder: Path, seed: int = 0, context: int = CONTEXT) -> Path:
    """A Llama folder with chat template. After the full stop the model may end, rarely; at temperature 0 it never does."""
    from danlu.models import MODELS
    from danlu.models.weights import save_model

    tokenizer = tiny_tokenizer()
    family = MODELS["llama"]
    model = family(family.Config(
        vocab_size=tokenizer.vocab_size, hidden_size=_WIDTH, num_hidden_layers=1, num_attention_heads=5, num_key_value_heads=5,
        intermediate_size=64, max_position_embeddings=context, tie_word_embeddings=False, initializer_range=0.02,
        bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
    ))  # fmt: skip
    model.initialise(seed)
    ids = {byte: tokenizer.encode(bytes([byte]).decode("latin-1"))[-1] for byte in range(128)}
    text = tokenizer.encode(TEXT)[-len(TEXT.encode()) :]
    follower = {ids[ord("\n")]: text[0], **dict(zip(text, [*text[1:], text[0]], strict=True))}
    begins = [tokenizer.encode(letter)[-len(letter.encode())] for letter in TEXT]
    scale = _WIDTH**0.5  # what the last norm makes of a vector with a single one
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(tokenizer.vocab_size, _WIDTH))
        head = torch.randn(tokenizer.vocab_size, _WIDTH, generator=torch.Generator().manual_seed(seed)) * _NOISE / scale
        for one in range(tokenizer.vocab_size):
            head[follower.get(one, begins[one % len(begins)]), one] = _SURE / scale
        head[tokenizer.eos_id, ids[ord(".")]] = _END / scale
        model.model.layers[0].self_attn.o_proj.weight *= _WEAK
        model.model.layers[0].mlp.down_proj.weight *= _WEAK
        model.lm_head.weight.copy_(head)
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    save_model(model, folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder
