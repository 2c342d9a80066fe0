"""Memory and time of decoding one token after 1k, 8k and 64k tokens: full attention, windows, sinks and recurrent families.

python benchmarks/decode_memory.py [--width 256] [--layers 6] [--window 512] [--repeats 5]
Batch 1, one thread, float32, random weights of one width and depth. Long texts are not read: memories are filled with random
keys and values as far as such a text would fill them, which changes neither their size nor the arithmetic of the next token.
Times are those of the processor, not of the wall, and the sides take turns: the machine may be busy.
"""

import statistics
import time
from pathlib import Path

import harness
import matplotlib as mpl
import torch

from danlu.core.page import new_figure
from danlu.models import MODELS
from danlu.nn.sinks import Endless
from danlu.nn.state import LayerState, WindowState

LENGTHS = (1024, 8192, 65536)
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "assets" / "decode-memory.svg"
SIDES = {  # what the picture calls it: family, its settings beside the sizes, whether sinks are added
    "full attention (qwen3)": ("qwen3", {}, False),
    "window (mistral)": ("mistral", {"sliding_window": "window"}, False),
    "window + 4 sinks (qwen3)": ("qwen3", {}, True),
    "recurrent (mamba2)": ("mamba2", {}, False),
    "recurrent (rwkv)": ("rwkv", {}, False),
    "recurrent (lstm)": ("lstm", {}, False),
}


class Side:
    """A model whose memory stands where a text of a given length would have left it."""

    def __init__(self, asked, length):
        family, settings, sinks = asked["side"]
        config = MODELS[family].Config
        sizes = config.sized(width=asked["width"], inner=asked["inner"], layers=asked["layers"], heads=asked["heads"],
                             context=2 * max(LENGTHS))  # fmt: skip
        more = {key: asked["window"] if value == "window" else value for key, value in settings.items()}
        self.model = MODELS.build(config(**{**sizes, **more, "vocab_size": 4096}), 0).eval()
        self.length, self.ids = length, torch.tensor([[7]])
        with torch.inference_mode():
            self.state = self.model.endless_state(1, asked["window"]) if sinks else self.model.new_state(1, length + 1)
            if not isinstance(self.state, Endless):
                self.model.hidden(torch.arange(64)[None], state=self.state)  # recurrent numbers of a real text
            for layer in self.state.layers:
                fill(layer, length)
        self.state.length = length

    def seconds(self, steps=6):
        """Processor time of one token, the median of a few, the memory back where it stood after each."""
        taken = []
        with torch.inference_mode():
            for _ in range(steps):
                started = time.process_time()
                self.model(self.ids, state=self.state)
                taken.append(time.process_time() - started)
                self.state.length = self.length
        return statistics.median(taken)


def fill(layer, length):
    """Random keys and values, as many as `length` tokens leave."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, WindowState):
        layer.filled = 0
        room = (1, layer.keys.size(1), layer.sinks + 2 * layer.window, layer.keys.size(3))
        layer.append(0, torch.randn(room, generator=generator), torch.randn(room, generator=generator))
    elif isinstance(layer, LayerState):
        for tensor in layer.tensors().values():
            tensor[:, :, :length].normal_(generator=generator)


def measure(settings, repeats):
    """One record a side and length: bytes of the memory, seconds of a token."""
    sides = {
        (name, length): Side({**settings, "side": side}, length)
        for name, side in SIDES.items() if side[0] in MODELS.names()
        for length in LENGTHS
    }  # fmt: skip
    taken = harness.alternate({key: side.seconds for key, side in sides.items()}, repeats)
    return [
        {"side": name, "tokens": length, "memory_bytes": side.state.bytes,
         "seconds_per_token": harness.spread(taken[name, length]),
         "parameters": sum(part.numel() for part in side.model.parameters())}
        for (name, length), side in sides.items()
    ]  # fmt: skip


def draw(records):
    """Two charts side by side: memory and time of a token over the length of the text."""
    chart, axes = new_figure(width=9.5, height=4.2, columns=2)
    panels = (
        (axes[0], "memory of one row, MB", lambda record: record["memory_bytes"] / 1e6, (0.01, 0.1, 1, 10, 100, 1000)),
        (
            axes[1],
            "processor time of the next token, ms",
            lambda record: 1e3 * record["seconds_per_token"]["median"],
            (5, 10, 20, 50),
        ),
    )
    for axis, label, value, marks in panels:
        for side, mark in zip(dict.fromkeys(record["side"] for record in records), "osD^vP", strict=False):
            line = [record for record in records if record["side"] == side]
            axis.plot(
                [record["tokens"] for record in line],
                [value(record) for record in line],
                marker=mark,
                label=side,
                linestyle="--" if "sinks" in side else "-",
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(LENGTHS, ["1k", "8k", "64k"])
        axis.set_yticks(marks, [f"{mark:g}" for mark in marks])
        axis.minorticks_off()
        axis.set_xlabel("tokens read")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    chart.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "danlu"}):
        chart.savefig(PICTURE, metadata={"Date": None})


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--window", type=int, default=512, help="tokens that windows keep")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"width": asked.width, "inner": -(-8 * asked.width // 3 // 32) * 32, "layers": asked.layers,
                "heads": max(1, asked.width // 64), "window": asked.window, "lengths": LENGTHS, "threads": 1}  # fmt: skip
    records = measure(settings, asked.repeats)
    draw(records)
    for record in records:
        print(f"{record['side']:28} {record['tokens']:>6} tokens  {record['memory_bytes'] / 1e6:>8.2f} MB  "
              f"{1e3 * record['seconds_per_token']['median']:>7.2f} ms a token")  # fmt: skip
    harness.save(
        "decode_memory",
        claim="decoding remembers as much as the family needs: windows, sinks and recurrent families the same at any length",
        target="memory and time of a token constant from 1k to 64k tokens for all but full attention",
        settings=settings, figures=records, versions={"torch": torch.__version__},
        notes="memories filled synthetically, processor time rather than wall time: see the script",
    )  # fmt: skip


if __name__ == "__main__":
    main()
