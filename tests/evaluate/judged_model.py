"""A small random model with a byte-level BPE tokenizer, in a folder that transformers opens too; shared by tests of judging."""

from pathlib import Path

CORPUS = ["The furnace was lit at dawn and by noon the lead had melted into gold.", "丹炉已在黎明时点燃，到中午铅就熔化了。",
          "Question: what is two and three? Answer: five.", "It is a mistake to theorise before one has data."]  # fmt: skip
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(folder: Path, seed: int = 0, context: int = 96, chat: str | None = CHAT, spread: float = 0.35) -> Path:
    """Files of a model folder. `spread`: larger makes the model surer of what it says."""
    from danlu.models import MODELS
    from danlu.models.weights import save_model
    from danlu.tokenizer.trainers import TRAINERS

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = TRAINERS.build(TRAINERS["bpe"].Config()).train(iter(CORPUS * 3), special, 330)
    tokenizer.chat_template = chat
    ids = {"vocab_size": tokenizer.vocab_size, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    model = MODELS["qwen3"].tiny(**ids, initializer_range=spread, max_position_embeddings=context)
    model.initialise(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    save_model(model, folder)
    return folder
