"""Write the tables of docs/*/scale.md: what training costs at 1, 8, 64 and 1024 accelerators and with 1 TB of text.

Arithmetic only: every assumption is a constant here and a row of the page's first table.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danlu.core.units import count, duration, size
from tools.regions import LANGUAGES, ROOT, filled, write_or_check

PEAK_FLOPS = 989e12
"""Dense bf16 operations a second of one H100 SXM, as its data sheet says."""
UTILISATION = {1: 0.40, 8: 0.40, 64: 0.38, 1024: 0.35}
"""Share of the peak that useful arithmetic reaches; published 8B runs lie between 0.33 and 0.39 on 8 to 128 of them."""
MEMORY_BYTES = 80e9
NODE = 8
NODE_NETWORK = 50e9
"""Bytes a second and direction between nodes for each accelerator (400 Gbit/s)."""
NODE_LINK = 450e9
"""Bytes a second and direction inside a node for each accelerator."""
PRICE = 2.5
"""US dollars for one accelerator hour, a rental price of 2025."""
BYTES_PER_TOKEN = 4.0
TEXT_BYTES = 1e12
DOCUMENTS = TEXT_BYTES / 4000
DECIDE_BYTES = 58
"""Bytes a document that deciding holds in memory: 50 of verdicts and one column of keys (data/decide.py)."""
BATCH_TOKENS = 4_194_304
STATE_BYTES = 18
"""Bytes of training state a parameter: bf16 weight and gradient 2 + 2, fp32 master weight 4, two fp32 moments 8, slack 2."""
PREPARE_BYTES_PER_CORE = 1e6
"""Bytes a second through one core of normalising, filtering and both kinds of deduplication: an order of magnitude."""
ENCODE_BYTES_PER_CORE = 4e6
DISK = 1e9


@dataclass(frozen=True)
class Model:
    """A decoder's size: parameters, layers, width, context."""

    name: str
    parameters: float
    layers: int
    width: int
    context: int

    def flops_per_token(self) -> float:
        """Forward and backward: 6 a parameter, and attention over a causal context of half its length on average."""
        return 6 * self.parameters + 6 * self.layers * self.width * self.context


MODELS = (Model("0.1B", 0.124e9, 12, 768, 1024), Model("1B", 1.2e9, 16, 2048, 4096), Model("8B", 8.0e9, 32, 4096, 8192),
          Model("70B", 70.6e9, 80, 8192, 8192))  # fmt: skip


def seconds(model: Model, accelerators: int, tokens: float) -> float:
    """Training time of `tokens`."""
    return model.flops_per_token() * tokens / (accelerators * PEAK_FLOPS * UTILISATION[accelerators])


def compute_rows(tokens: float) -> list[list[str]]:
    """One row a model: operations, then days and dollars on each number of accelerators."""
    lines = []
    for model in MODELS:
        cells = [model.name, f"{model.flops_per_token() * tokens:.2e}"]
        for accelerators in UTILISATION:
            spent = seconds(model, accelerators, tokens)
            cells.append(f"{long(spent)}<br>${spent / 3600 * accelerators * PRICE:,.0f}")
        lines.append(cells)
    return lines


def memory_rows() -> list[list[str]]:
    """Bytes of weights, gradients and optimiser state, whole and per accelerator when sharded over all."""
    lines = []
    for model in MODELS:
        whole = model.parameters * STATE_BYTES
        shares = [f"{size(whole / n)}{'' if whole / n < 0.75 * MEMORY_BYTES else ' ✗'}" for n in UTILISATION]
        lines.append([model.name, size(model.parameters * 2), size(whole), *shares])
    return lines


def network_rows() -> list[list[str]]:
    """A step of sharded training: bytes each accelerator sends, seconds for them, seconds of arithmetic."""
    lines = []
    for model in MODELS:
        sent = 3 * 2 * model.parameters  # gather weights twice, scatter gradients once, bf16; (n - 1) / n taken as 1
        cells = [model.name, size(sent)]
        for accelerators in (n for n in UTILISATION if n > 1):
            rate = NODE_LINK if accelerators <= NODE else NODE_NETWORK
            step = model.flops_per_token() * BATCH_TOKENS / (accelerators * PEAK_FLOPS * UTILISATION[accelerators])
            cells.append(f"{sent / rate:.2g} s / {step:.3g} s")
        lines.append(cells)
    return lines


def data_rows() -> list[tuple[str, str]]:
    """What 1 TB of text weighs at each station, by key of the words below."""
    tokens = TEXT_BYTES / BYTES_PER_TOKEN
    return [
        ("raw", size(TEXT_BYTES)),
        ("shards", size(TEXT_BYTES * 0.4)),
        ("tokens", count(tokens)),
        ("token_bytes", size(tokens * 4)),
        ("keys", size(DOCUMENTS * 14 * 8)),
        ("decide", size(DOCUMENTS * DECIDE_BYTES)),
        ("prepare", f"{long(TEXT_BYTES / PREPARE_BYTES_PER_CORE / 64)} / {long(TEXT_BYTES / PREPARE_BYTES_PER_CORE / 1024)}"),
        ("encode", f"{long(TEXT_BYTES / ENCODE_BYTES_PER_CORE / 64)} / {long(TEXT_BYTES / ENCODE_BYTES_PER_CORE / 1024)}"),
        ("read", long(TEXT_BYTES / DISK)),
        ("feed", size(4 * tokens / seconds(MODELS[2], 1024, tokens))),
        ("checkpoint", size(MODELS[2].parameters * 14)),
    ]


def long(spent: float) -> str:
    """A long time in words: days above two of them, years above two of those."""
    if spent < 2 * 86400:
        return duration(round(spent / 60) * 60) if spent > 3600 else duration(spent)
    days = spent / 86400
    return f"{days:,.0f} d" if days < 730 else f"{days / 365.25:,.1f} y"


_WORDS = {
    "en": {
        "model": "model", "flops": "FLOPs", "whole": "training state", "weights": "weights, bf16", "sent": "sent a step",
        "station": "station", "amount": "amount",
        "raw": "text, uncompressed", "shards": "Parquet shards, zstd (a ratio of 0.4)",
        "tokens": f"tokens, {BYTES_PER_TOKEN:g} bytes each",
        "token_bytes": "token shards, uint32", "keys": "MinHash keys on disk, 14 bands of 8 bytes, documents of 4 kB",
        "decide": f"memory to decide what stays, {DECIDE_BYTES} bytes a document",
        "prepare": "cleaning on 64 / 1024 cores", "encode": "encoding on 64 / 1024 cores",
        "read": f"reading it once from a disk of {size(DISK)}/s",
        "feed": "tokens to feed 1024 accelerators training 8B, a second",
        "checkpoint": "a checkpoint of 8B with optimiser state",
        "assumption": "assumption", "value": "value",
        "assumptions": [
            ("accelerator", f"H100 SXM, {PEAK_FLOPS / 1e12:.0f} TFLOP/s dense bf16, {size(MEMORY_BYTES)}"),
            ("share of the peak reached", ", ".join(f"{n}: {share:.0%}" for n, share in UTILISATION.items())),
            ("operations a token", "6 N + 6 · layers · width · context (causal attention counted once)"),
            ("text", f"{size(TEXT_BYTES)} = {count(TEXT_BYTES / BYTES_PER_TOKEN)} tokens of {BYTES_PER_TOKEN:g} bytes"),
            ("tokens a step", count(BATCH_TOKENS)),
            ("state a parameter", f"{STATE_BYTES} bytes: weight 2, gradient 2, fp32 master 4, two moments 8, slack 2"),
            ("links, each way and accelerator", f"{size(NODE_LINK)}/s in a node of {NODE}, {size(NODE_NETWORK)}/s between nodes"),
            ("price", f"${PRICE:g} an accelerator hour"),
            ("cleaning, encoding", f"{size(PREPARE_BYTES_PER_CORE)}/s and {size(ENCODE_BYTES_PER_CORE)}/s a core"),
        ],
    },
    "zh": {
        "model": "模型", "flops": "浮点运算", "whole": "训练状态", "weights": "权重（bf16）", "sent": "每步发送",
        "station": "环节", "amount": "数量",
        "raw": "未压缩文本", "shards": "Parquet 分片，zstd（压缩比取 0.4）", "tokens": f"词元数，每个 {BYTES_PER_TOKEN:g} 字节",
        "token_bytes": "词元分片（uint32）", "keys": "磁盘上的 MinHash 键：14 带，每带 8 字节，文档平均 4 kB",
        "decide": f"决定去留所需内存，每篇文档 {DECIDE_BYTES} 字节",
        "prepare": "清洗，用 64 / 1024 个核", "encode": "编码，用 64 / 1024 个核",
        "read": f"从 {size(DISK)}/s 的磁盘读一遍", "feed": "1024 卡训练 8B 时每秒要喂的词元数据",
        "checkpoint": "8B 连同优化器状态的一个检查点",
        "assumption": "假设", "value": "取值",
        "assumptions": [
            ("加速卡", f"H100 SXM，bf16 稠密 {PEAK_FLOPS / 1e12:.0f} TFLOP/s，{size(MEMORY_BYTES)}"),
            ("实际达到峰值的比例", "，".join(f"{n} 卡 {share:.0%}" for n, share in UTILISATION.items())),
            ("每词元运算量", "6 N + 6 · 层数 · 宽度 · 上下文（因果注意力只算一半方阵）"),
            ("文本", f"{size(TEXT_BYTES)} = {count(TEXT_BYTES / BYTES_PER_TOKEN)} 词元，每词元 {BYTES_PER_TOKEN:g} 字节"),
            ("每步词元数", count(BATCH_TOKENS)),
            ("每参数状态", f"{STATE_BYTES} 字节：权重 2、梯度 2、fp32 主权重 4、两个动量 8、余量 2"),
            ("链路（每卡单向）", f"节点内（{NODE} 卡）{size(NODE_LINK)}/s，节点间 {size(NODE_NETWORK)}/s"),
            ("价格", f"每卡时 ${PRICE:g}"),
            ("清洗、编码速度", f"每核 {size(PREPARE_BYTES_PER_CORE)}/s 与 {size(ENCODE_BYTES_PER_CORE)}/s"),
        ],
    },
}  # fmt: skip


def table(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def pages() -> dict[Path, str]:
    """What the scale pages must hold."""
    tokens = TEXT_BYTES / BYTES_PER_TOKEN
    found = {}
    for language in LANGUAGES:
        words = _WORDS[language]
        path = ROOT / "docs" / language / "scale.md"
        page = path.read_text(encoding="utf-8")
        counts = [f"{n}×" for n in UTILISATION]
        page = filled(
            page, "assumptions", table([words["assumption"], words["value"]], [list(row) for row in words["assumptions"]])
        )
        page = filled(page, "compute", table([words["model"], words["flops"], *counts], compute_rows(tokens)))
        page = filled(page, "memory", table([words["model"], words["weights"], words["whole"], *counts], memory_rows()))
        page = filled(page, "network", table([words["model"], words["sent"], *counts[1:]], network_rows()))
        page = filled(
            page, "data", table([words["station"], words["amount"]], [[words[key], value] for key, value in data_rows()])
        )
        found[path] = page
    return found


if __name__ == "__main__":
    sys.exit(write_or_check(pages()))
