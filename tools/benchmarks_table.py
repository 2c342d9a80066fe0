"""Fill the table of measured figures in README*.md and docs/*/benchmarks.md from benchmarks/results/*.json.

One function a result file turns its figures into rows; a result without one is an error, so no figure can go unseen.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danlu.core.units import size
from tools.regions import LANGUAGES, ROOT, filled, write_or_check

RESULTS = ROOT / "benchmarks" / "results"
_HEAD = {"en": ("what", "against", "Danlu", "other", "Danlu ÷ other"), "zh": ("测什么", "对比", "丹炉", "对方", "丹炉 ÷ 对方")}
_NONE = {"en": "No figures have been measured yet.", "zh": "还没有测得的数据。"}
_RECORD = {
    "en": ("Target", "Command", "Date", "Machine", "Versions", "Settings", "Notes"),
    "zh": ("目标", "命令", "日期", "机器", "版本", "设置", "备注"),
}


@dataclass(frozen=True)
class Line:
    """A row of the table: what was measured in both languages, against whom, both figures and their ratio in words."""

    english: str
    chinese: str
    against: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    first: bool = True
    """Whether it belongs into the README as well."""

    def cells(self, language: str) -> list[str]:
        return [self.english if language == "en" else self.chinese, self.against, self.ours, self.theirs, self.ratio]


Rows = Callable[[dict[str, Any]], Iterator[Line]]
_READERS: dict[str, Rows] = {}


def reads(*names: str) -> Callable[[Rows], Rows]:
    """Decorator: this function turns the results of these files into rows."""

    def keep(rows: Rows) -> Rows:
        _READERS.update(dict.fromkeys(names, rows))
        return rows

    return keep


def ratio(value: float) -> str:
    """A ratio in words."""
    return f"{value:.3g}×"


@reads("startup")
def _startup(record: dict[str, Any]) -> Iterator[Line]:
    for command in ("danlu --help", "danlu pretrain --help"):
        seconds = record["figures"][command]["above_bare_s"]["median"]
        yield Line(
            f"`{command}`, seconds above `python -c pass`", f"`{command}` 比 `python -c pass` 多用的秒数", "", f"{seconds:.2f}"
        )


@reads("pretrain_throughput")
def _throughput(record: dict[str, Any]) -> Iterator[Line]:
    dtype = record["settings"]["dtype"]
    for shape, sides in record["figures"].items():
        ours = max(
            (side for side in ("danlu", "danlu compiled") if side in sides),
            key=lambda side: sides[side]["tokens_per_s"]["median"],
        )
        for other in (side for side in sides if not side.startswith("danlu") and side != "measured"):
            yield Line(
                f"pre-training tokens/s, {shape}, {dtype}", f"预训练 词元/秒，{shape}，{dtype}", other,
                f"{sides[ours]['tokens_per_s']['median']:,.0f}", f"{sides[other]['tokens_per_s']['median']:,.0f}",
                ratio(sides[f"{ours} / {other}, tokens_per_s"]["median"]), first="compiled" not in other,
            )  # fmt: skip
        if "transformers llama" in sides:
            yield Line(
                f"peak memory in training, {shape}, {dtype}", f"训练峰值内存，{shape}，{dtype}", "transformers llama",
                size(sides[ours]["peak_bytes"]["median"]), size(sides["transformers llama"]["peak_bytes"]["median"]),
                ratio(sides[f"{ours} / transformers llama, peak_bytes"]["median"]),
            )  # fmt: skip


@reads("data_throughput")
def _data(record: dict[str, Any]) -> Iterator[Line]:
    found = record["figures"]
    for english, chinese, key, across in (
        ("cleaning and deduplication, MB/s", "清洗与去重，MB/s", "MB/s", "speed ratio"),
        ("cleaning, peak memory, MB", "清洗的峰值内存，MB", "peak_MB", "memory ratio"),
    ):
        ours, theirs = found["danlu"][key]["median"], found["datatrove"][key]["median"]
        yield Line(english, chinese, "datatrove", f"{ours:.3g}", f"{theirs:.3g}", ratio(found[across]["median"]))
    if (large := found.get("danlu, ten times the text")) is not None:
        megabytes = record["settings"]["text_bytes"] / 1e5
        yield Line(f"cleaning and deduplication of {megabytes:.0f} MB, MB/s", f"清洗与去重 {megabytes:.0f} MB，MB/s", "",
                   f"{large['MB/s']['median']:.3g}", first=False)  # fmt: skip


@reads("tokenizer_speed")
def _tokenizer(record: dict[str, Any]) -> Iterator[Line]:
    tasks = (
        ("train", "16k BPE, training, MB/s", "16k BPE 训练，MB/s"),
        ("encode one text at a time", "16k BPE, encoding text by text, MB/s", "16k BPE 逐篇编码，MB/s"),
        ("encode a batch", "16k BPE, encoding in batches, MB/s", "16k BPE 成批编码，MB/s"),
    )
    megabytes, rounds = (record["settings"][key] for key in ("megabytes", "rounds"))
    for task, english, chinese in tasks:
        rates, ratios = record["figures"][f"{task}, MB/s"], record["figures"][f"{task}, danlu against"]
        for other, across in ratios.items():
            yield Line(f"{english}, {megabytes} MB, {rounds} rounds", f"{chinese}，{megabytes} MB，{rounds} 轮", other,
                       f"{rates['danlu']['median']:.3g}", f"{rates[other]['median']:.3g}", ratio(across["median"]),
                       first=other == "tokenizers")  # fmt: skip


@reads("generate_speed")
def _generate(record: dict[str, Any]) -> Iterator[Line]:
    for case, found in record["figures"].items():
        rates = found["tokens_per_s"]
        size_, _, threads = case.partition(", ")
        chinese = f"生成 词元/秒，{size_}，{threads.split()[0]} 线程"
        for other in ("transformers", "danlu, plain decoder"):
            if other in rates:
                yield Line(f"generate, tokens/s, {case}", chinese, other, f"{rates['danlu']['median']:,.0f}",
                           f"{rates[other]['median']:,.0f}", ratio(rates[f"danlu / {other}"]["median"]),
                           first=other == "transformers")  # fmt: skip


@reads("time_to_quality")
def _quality(record: dict[str, Any]) -> Iterator[Line]:
    found, other = record["figures"], "nanoGPT, compiled" if record["settings"].get("compiled") else "nanoGPT"
    seconds, losses = found["seconds"], found["loss_at_equal_time"]
    yield Line(f"seconds of training to loss {found['target_loss']:.3f}, tiny Shakespeare",
               f"训练到损失 {found['target_loss']:.3f} 的秒数，tiny Shakespeare", other, f"{seconds['danlu']['median']:.0f}",
               f"{seconds['nanogpt']['median']:.0f}", ratio(found["danlu / nanogpt"]["median"]))  # fmt: skip
    yield Line("loss after the same training time", "同样训练时间后的损失", other, f"{losses['danlu_equal']['median']:.3f}",
               f"{losses['nanogpt']['median']:.3f}")  # fmt: skip


@reads("budget_grid")
def _budget(record: dict[str, Any]) -> Iterator[Line]:
    for case, found in record["figures"]["summary"].items():
        others = found["alternatives"]
        yield Line(f"budget dial, bits per byte, {case}", f"预算旋钮，每字节比特数，{case}", f"best of {others} alternatives",
                   f"{found['dial']:.4f}", f"{found['its bits per byte']:.4f}", f"{found['dial over best']:+.1%}")  # fmt: skip


@reads("small_text")
def _small_text(record: dict[str, Any]) -> Iterator[Line]:
    for case, found in record["figures"].items():
        best, last = found["best"], found["last"]
        at = f"{best['weights_of_step']} / {best['steps']}"
        share = f"{best['bits_per_byte'] / last['bits_per_byte'] - 1:+.1%}" if best["weights_of_step"] < best["steps"] else ""
        yield Line(f"too little text, bits per byte of other text, {case}, step {at}",
                   f"文本太少时，对别的文本的每字节比特数，{case}，步 {at}", "the last weights", f"{best['bits_per_byte']:.3f}",
                   f"{last['bits_per_byte']:.3f}", share, first=False)  # fmt: skip


@reads("ablations")
def _ablations(record: dict[str, Any]) -> Iterator[Line]:
    for block, found in record["figures"]["summary"].items():
        if found.get("gain") is not None and found["seeds"] >= 3 and block != "base":
            error = f" ± {found['gain_standard_error']:.4f}" if found["gain_standard_error"] else ""
            yield Line(f"speed preset, gain in bits per byte: {block}", f"提速配置，增益（每字节比特数）：{block}",
                       "base", f"{found['gain']:+.4f}{error}", first=False)  # fmt: skip


@reads("tokenizer_patterns")
def _patterns(record: dict[str, Any]) -> Iterator[Line]:
    for pattern, kinds in record["figures"].items():
        for kind, value in kinds.items():
            yield Line(f"bytes per token, {kind}", f"每词元字节数，{kind}", pattern, "", f"{value:.3f}", first=False)


@reads("ancestors")
def _ancestors(record: dict[str, Any]) -> Iterator[Line]:
    for case, found in record["figures"]["cells"].items():
        if "bits_per_byte" in found:
            yield Line(f"held-out bits per byte, {case}", f"留出文本每字节比特数，{case}", "",
                       f"{found['bits_per_byte']:.3f} ± {found['standard_error']:.3f}", first=False)  # fmt: skip
        for score in found.get("scores", ()):
            if "value" in score:
                what = f"{case}: {score['file']} ({score['known']}/{score['total']})"
                yield Line(f"word vectors, {what}", f"词向量，{what}", "", f"{score['value']:.3f}", first=False)


@reads("decode_memory")
def _decoding(record: dict[str, Any]) -> Iterator[Line]:
    for found in record["figures"]:
        side, milliseconds = found["side"], 1e3 * found["seconds_per_token"]["median"]
        yield Line(f"memory and processor time of the next token: {side}", f"记忆与下一个词元的处理器时间：{side}",
                   f"{found['tokens'] // 1024}k", f"{size(found['memory_bytes'])}, {milliseconds:.1f} ms",
                   first=False)  # fmt: skip


@reads("objectives")
def _objectives(record: dict[str, Any]) -> Iterator[Line]:
    for cell in record["figures"]:
        case = f"{cell['language']}, {cell['side']}, {record['settings']['budget']}"
        for found in cell.get("held_out") or ():
            kind = "bits_per_byte" if "bits_per_byte" in found else "pseudo_bits_per_byte"
            words = {"bits_per_byte": "bits per byte", "pseudo_bits_per_byte": "pseudo bits per byte"}[kind]
            yield Line(f"{words}, {case}", f"{'伪' * kind.startswith('pseudo')}每字节比特数，{case}", found["model"],
                       f"{found[kind]:.3f}", first=False)  # fmt: skip
        if not cell.get("held_out"):
            loss = cell["trained"]["heldout_loss"]
            yield Line(f"nats a target, {case}", f"每个目标的奈特数，{case}", "", f"{loss:.3f}", first=False)


@reads("family_speed")
def _families(record: dict[str, Any]) -> Iterator[Line]:
    for family, found in record["figures"].items():
        for part, chinese in (("train", "训练步"), ("prefill", "读入提示")):
            if part in found:
                ours, theirs = (found[part][f"{side}_s"]["median"] for side in ("danlu", "transformers"))
                names = f"{part}, seconds, {family}", f"{chinese}，秒，{family}"
                yield Line(*names, "transformers", f"{ours:.3g}", f"{theirs:.3g}", ratio(ours / theirs), first=False)


@reads("needle")
def _needle(record: dict[str, Any]) -> Iterator[Line]:
    context, factor = record["settings"]["context"], record["settings"]["factor"]
    for model in record["figures"]["models"]:
        shares = ", ".join(f"{row['found']:.0%}" for row in model["by_length"] if row["tokens"] in (context, context * factor))
        yield Line(
            f"facts found at 1 and {factor} contexts: {model['model']}",
            f"在 1 倍和 {factor} 倍上下文里找到的事实：{model['model']}", "", shares, first=False,
        )  # fmt: skip


@reads("classify")
def _labelled(record: dict[str, Any]) -> Iterator[Line]:
    def shown(found: dict[str, float]) -> str:
        return f"{found['value']:.3f} ({found['low']:.3f} – {found['high']:.3f})"

    for task, found in record["figures"].items():
        name, linear = found["figure"], found["scikit-learn"]
        for theirs in [name, *(key for key in linear if key == f"{name}_by_labels")]:
            against = "TF-IDF" if theirs == name == "recall_at_1" else "linear, scikit-learn"
            words = name.replace("_", " ")
            yield Line(f"{task}: {words}, 95 %", f"{task}：{words}，95 %", against, shown(found["danlu"][name]),
                       shown(linear[theirs]), first=False)  # fmt: skip


@reads("verifiable")
def _verifiable(record: dict[str, Any]) -> Iterator[Line]:
    for objective in sorted({run["objective"] for run in record["figures"]}):
        runs = [run for run in record["figures"] if run["objective"] == objective]
        ends, starts = (" / ".join(f"{run[when]:.2f}" for run in runs) for when in ("end", "start"))
        minutes = max(run["cpu_minutes"] for run in runs)
        yield Line(
            f"sums right, held out, after {objective} ({len(runs)} seeds, at most {minutes:.1f} processor minutes)",
            f"留出加法题正确率，{objective} 之后（{len(runs)} 个种子，至多 {minutes:.1f} 处理器分钟）", "before", ends, starts,
            first=False,
        )  # fmt: skip


@reads("data_memory")
def _bounded(record: dict[str, Any]) -> Iterator[Line]:
    text, limit = (size(record["settings"][key] * unit) for key, unit in (("text_bytes", 1), ("limit_megabytes", 1_000_000)))
    yield Line(f"peak memory of cleaning {text}, limit {limit}", f"清洗 {text} 文本的峰值内存，上限 {limit}", "",
               size(record["figures"]["peak_MB"] * 1_000_000))  # fmt: skip


@reads("serve_decode")
def _decode(record: dict[str, Any]) -> Iterator[Line]:
    sides = record["figures"]["sides"]
    for case, across in record["figures"]["ratios"].items():
        pair, _, what = case.rpartition(", ")
        ours, other = pair.split(" / ")
        form = ours.removeprefix("danlu ")
        english = {"write": "tokens/s written, one answer at a time", "read": "tokens/s of a prompt of 512 read"}[what]
        chinese = {"write": "单个回答的写出速度，词元/秒", "read": "读入 512 词元提示的速度，词元/秒"}[what]
        mine, theirs = (sides[side][f"{what}_tokens_per_s"]["median"] for side in (ours, other))
        yield Line(f"{english}, 134M, {form}", f"{chinese}，134M，{form}", other, f"{mine:,.0f}", f"{theirs:,.0f}",
                   ratio(across["median"]), first=other.startswith("llama.cpp") or form == "fp32")  # fmt: skip


@reads("serve_load")
def _load(record: dict[str, Any]) -> Iterator[Line]:
    sides = record["figures"]["sides"]
    for case, across in record["figures"]["ratios"].items():
        pair, _, level = case.rpartition(", ")
        ours, other = pair.split(" / ")
        form, rounds = ours.removeprefix("danlu ").partition(",")[0], min(sides[side]["rounds"] for side in (ours, other))
        against = other.removesuffix(", shared beginning") + (f" (rounds: {rounds})" if rounds < 5 else "")
        chinese = level.replace(" at a time", " 路并发").replace("shared beginning", "共同的 1k 词元开头")
        first = level.startswith(("16", "shared")) and (other.startswith("llama.cpp") or "batching" in other)
        mine, theirs = (sides[side][level] for side in (ours, other))
        yield Line(f"served over HTTP, total tokens/s, {level}, {form}", f"HTTP 服务总词元/秒，{chinese}，{form}", against,
                   f"{mine['total_tokens_per_s']['median']:,.0f}", f"{theirs['total_tokens_per_s']['median']:,.0f}",
                   ratio(across["total_tokens_per_s"]), first)  # fmt: skip
        yield Line(f"seconds to the first text, p99, {level}, {form}", f"到第一段文字的秒数 p99，{chinese}，{form}", against,
                   f"{mine['ttft_p99_s']['median']:.2f}", f"{theirs['ttft_p99_s']['median']:.2f}",
                   ratio(across["ttft_p99_s"]), first)  # fmt: skip


@reads("serve_start")
def _start(record: dict[str, Any]) -> Iterator[Line]:
    sides = record["figures"]["sides"]
    words = (
        ("first_token_s", "seconds from the command to the first token", "从命令到第一个词元的秒数", "{:.2f}".format),
        ("resident_bytes_loaded", "resident memory after a request", "答过一个请求后的常驻内存", size),
    )
    for side, found in sides.items():
        for key, english, chinese, shown in words:
            if not side.startswith("danlu"):
                yield Line(english, chinese, side, "", shown(found[key]["median"]), first=False)
            else:
                yield Line(f"{english}, {side}", f"{chinese}，{side}", "", shown(found[key]["median"]), first=False)


@reads("serve_hold")
def _hold(record: dict[str, Any]) -> Iterator[Line]:
    found = record["figures"]
    together = found["together"]["requests"]
    minutes = record["settings"]["minutes"]
    yield Line(f"errors and incomplete answers in {minutes:g} minutes of mixed load",
               f"{minutes:g} 分钟混合负载中的错误与残缺回答", "",
               f"{together['error'] + together['incomplete']} / {sum(together.values()):,}")  # fmt: skip


@reads("aligned_life")
def _aligned(record: dict[str, Any]) -> Iterator[Line]:
    found = record["figures"]
    size_of = f"{found['base']['parameters'] / 1e6:.1f}M"
    if "instruct" in found:
        change, known = found["instruct"]["change"], found["instruct"]["identity"]
        loss = change["loss on held-out answers, nats a token"]
        yield Line(f"instruction tuning of {size_of} in minutes, held-out loss", f"{size_of} 模型几分钟的指令微调，留出损失",
                   "before", f"{loss['after']['value']:.2f}", f"{loss['before']['value']:.2f}")  # fmt: skip
        yield Line("held-out questions about who it is, named right", "关于身份的留出问题，答出名字", "",
                   f"{known['named']} / {known['questions']}", first=False)  # fmt: skip
        bits = change["bits per byte of held-out text"]
        yield Line("the same, bits per byte of old text", "同上，旧文本的每字节比特", "before", f"{bits['after']['value']:.3f}",
                   f"{bits['before']['value']:.3f}", first=False)  # fmt: skip
    if "reward" in found:
        figures = found["reward"]["figures"]
        yield Line("reward model, accuracy on held-out pairs", "奖励模型在留出对上的准确率", "the best length threshold",
                   f"{figures['accuracy']['value']:.3f}", f"{figures['threshold_accuracy']['value']:.3f}")  # fmt: skip
    if "dpo" in found:
        won, bits = found["dpo"]["win_rate"], found["dpo"]["change"]["bits per byte of held-out text"]["change"]["value"]
        yield Line("DPO, win rate under that reward model", "DPO 在该奖励模型下的胜率", "before DPO", f"{won['value']:.2f}",
                   "0.50", f"{bits:+.3f} bits per byte")  # fmt: skip
    if "translate" in found:
        yield Line("English to Chinese, chrF", "英译中，chrF", "copying", f"{found['translate']['chrf']:.1f}",
                   f"{found['translate']['chrf_of_copying']:.1f}")  # fmt: skip
    if "titles" in found:
        yield Line("titles of Chinese abstracts, ROUGE-L", "中文摘要的标题，ROUGE-L", "the first clause",
                   f"{found['titles']['rouge_l']:.3f}", f"{found['titles']['rouge_l_of_first_clause']:.3f}")  # fmt: skip


@reads("teach_speed")
def _taught(record: dict[str, Any]) -> Iterator[Line]:
    for case, sides in record["figures"].items():
        rounds = sides["danlu"]["tokens_per_s"]["n"]
        for side in (name for name in sides if name.startswith("trl")):
            against, both = f"TRL{side.removeprefix('trl')} (rounds: {rounds})", (sides["danlu"], sides[side])
            speed, memory = ([one[key]["median"] for one in both] for key in ("tokens_per_s", "peak_bytes"))
            yield Line(f"taught tokens/s, {case}", f"每秒教授词元，{case}", against, f"{speed[0]:,.0f}", f"{speed[1]:,.0f}",
                       ratio(sides[f"danlu / {side}, tokens_per_s"]["median"]))  # fmt: skip
            yield Line(f"peak memory of teaching, {case}", f"教授时的峰值内存，{case}", against, size(memory[0]), size(memory[1]),
                       ratio(sides[f"danlu / {side}, peak_bytes"]["median"]))  # fmt: skip


@reads("distil")
def _distilled(record: dict[str, Any]) -> Iterator[Line]:
    seeds = list(record["figures"]["seeds"].values())
    ways = [way for way in seeds[0] if way not in ("student", "teacher")]
    start, goal = (sum(one[side]["exact"] for one in seeds) / len(seeds) for side in ("student", "teacher"))
    for way in ways:
        found = sum(one[way]["exact"] for one in seeds) / len(seeds)
        closed = [one[way]["gap_closed_exact"] for one in seeds]
        after = way.replace("_", " ")
        names = (f"held-out sums answered, student {start:.2f}, after {after}",
                 f"留出算术题答对的比例，学生原为 {start:.2f}，{after} 之后")  # fmt: skip
        yield Line(*names, "teacher", f"{found:.2f}", f"{goal:.2f}", f"gap closed {min(closed):.0%} – {max(closed):.0%}",
                   first=way == "gkd")  # fmt: skip


@reads("native_kernels")
def _products(record: dict[str, Any]) -> Iterator[Line]:
    peers = {"fp32": "torch float32", "bf16": "torch bfloat16", "int8": "aten int8pack", "int4": "aten int4pack"}
    for shape, found in record["figures"].items():
        for what, rates in found.items():
            for form, other in peers.items():
                if f"native {form}" in rates and other in rates:
                    mine, theirs = rates[f"native {form}"]["median"], rates[other]["median"]
                    chinese = what.replace(" at ", "，").replace(" row", " 行").replace("行s", "行")
                    yield Line(f"{what}, {shape}, {form}", f"{chinese}，{shape}，{form}", other, f"{mine:.1f}", f"{theirs:.1f}",
                               ratio(mine / theirs), first=False)  # fmt: skip


@reads("choosing")
def _choosing(record: dict[str, Any]) -> Iterator[Line]:
    for settings, sides in record["figures"]["milliseconds a step"].items():
        if "plain" in sides:
            mine, theirs = sides["choose"]["median"], sides["plain"]["median"]
            yield Line(f"milliseconds to choose 16 tokens of 50k: {settings}", f"从五万词元中选出 16 个的毫秒数：{settings}",
                       "plain samplers", f"{mine:.2f}", f"{theirs:.2f}", ratio(mine / theirs), first=False)  # fmt: skip


def records() -> dict[str, dict[str, Any]]:
    """Every result by file name. Fewer than five repeats are a trial, which nobody should quote."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    return {name: record for name, record in found.items() if record["settings"].get("repeats", 5) >= 5 and lines(name, record)}


def lines(name: str, record: dict[str, Any]) -> list[Line]:
    """The rows of one result; `ablations_longer` is read like `ablations`. Raises KeyError for one that nothing here reads."""
    reader = next((key for key in sorted(_READERS, key=len, reverse=True) if name.startswith(key)), name)
    return list(_READERS[reader](record))


def said(value: Any) -> bool:
    """Whether a setting tells something: paths and long tables do not."""
    return value is not None and "/" not in str(value) and len(str(value)) < 200


def table(rows: list[Line], language: str) -> str:
    """Rows as a Markdown table."""
    if not rows:
        return _NONE[language]
    head = _HEAD[language]
    cells = [list(head), ["---", "---", "---:", "---:", "---:"], *(row.cells(language) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def details(language: str) -> str:
    """One section a result: its rows and all that is needed to judge and to repeat them."""
    words = _RECORD[language]
    parts = []
    for name, record in records().items():
        machine = record["machine"]
        facts = [
            (words[0], record["target"]), (words[1], f"`{record['command']}`"), (words[2], record["date"]),
            (words[3], f"{machine['processor']}, {machine['cores']} cores, {size(machine['memory_bytes'])}, {machine['system']}"),
            (words[4], ", ".join(f"{key} {value}" for key, value in {**machine["versions"], **record["versions"]}.items())),
            (words[5], ", ".join(f"{key}: {value}" for key, value in record["settings"].items() if said(value))),
            (words[6], record["notes"]),
        ]  # fmt: skip
        parts += [
            f"## {name} {{#{name.replace('_', '-')}}}",
            "",
            f"*{record['claim']}*",
            "",
            table(lines(name, record), language),
            "",
        ]
        colon = ": " if language == "en" else "："
        parts += [f"- {word}{colon}{fact}" for word, fact in facts if fact] + [""]
    return "\n".join(parts) or _NONE[language]


def pages() -> dict[Path, str]:
    """What the README files and the pages of measured figures must hold."""
    first = [line for name, record in records().items() for line in lines(name, record) if line.first]
    found = {}
    for language, readme in zip(LANGUAGES, ("README.md", "README.zh-CN.md"), strict=True):
        page = (ROOT / readme).read_text(encoding="utf-8")
        found[ROOT / readme] = filled(page, "benchmarks", table(first, language))
        path = ROOT / "docs" / language / "benchmarks.md"
        found[path] = filled(path.read_text(encoding="utf-8"), "benchmarks", details(language))
    return found


if __name__ == "__main__":
    sys.exit(write_or_check(pages()))
