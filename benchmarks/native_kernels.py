"""The native step's matrix products beside torch's own in the same formats.

python benchmarks/native_kernels.py [--threads 2] [--repeats 5]
Weights read in GB/s at one row (walking through more matrices than a cache holds) and GFLOP/s at 512 rows, for the shapes of a
134M Llama. All sides take turns; the median, and the best of the rounds beside it, because machines are shared. Times are
processor seconds over threads: what other programs take is left out, waiting for memory is not. Whole models: serve_decode.py.
"""

import json
import statistics
import time
from pathlib import Path

import harness

SHAPES = {"qkv": (2304, 768), "gate_up": (4096, 768), "down": (768, 2048)}
BYTES = 96 << 20  # of weights to walk through


def seconds(threads):
    """Processor seconds, as if all threads had worked all the time."""
    return time.process_time() / threads


def sides(outputs, inputs, threads):
    """Each side: how many bytes its weight has, and how to multiply x with copy number i of it."""
    import torch
    import torch.nn.functional as F

    from danlu.engine.native.matrix import FORMATS, pack, rounded

    def copied(first, nbytes, copy):
        return [first] + [copy(first) for _ in range(max(BYTES // nbytes, 1) - 1)]

    weight = torch.randn(outputs, inputs) * 0.02
    found = {}
    for form in FORMATS:
        matrix = pack(rounded(weight, form))
        many = copied(matrix, matrix.nbytes, lambda one: one.copy())
        found[f"native {form}"] = (matrix.nbytes, lambda x, i, many=many: many[i % len(many)].product(x, threads))
    for dtype in (torch.float32, torch.bfloat16):
        own = weight.to(dtype)
        many = copied(own, own.nbytes, torch.clone)
        name = f"torch {str(dtype).removeprefix('torch.')}"
        found[name] = (own.nbytes, lambda x, i, many=many, dtype=dtype: F.linear(x.to(dtype), many[i % len(many)]))
    codes, scales = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8), torch.rand(outputs).bfloat16()
    many8 = copied(codes, codes.nbytes, torch.clone)
    found["aten int8pack"] = (
        codes.nbytes, lambda x, i: torch._weight_int8pack_mm(x.bfloat16(), many8[i % len(many8)], scales)
    )  # fmt: skip
    small = torch.randint(0, 16, (outputs, inputs), dtype=torch.int32)
    packed = torch._convert_weight_to_int4pack_for_cpu(small, 1)
    side = torch.rand(inputs // 32, outputs, 2).bfloat16()
    many4 = copied(packed, packed.nbytes, torch.clone)
    found["aten int4pack"] = (
        packed.nbytes + side.nbytes,
        lambda x, i: torch._weight_int4pack_mm_for_cpu(x.bfloat16(), many4[i % len(many4)], 32, side),
    )
    return found


def products(repeats, threads):
    import torch

    torch.set_num_threads(threads)
    figures = {}
    for shape, (outputs, inputs) in SHAPES.items():
        one, many = torch.randn(1, inputs), torch.randn(512, inputs)
        all_sides = sides(outputs, inputs, threads)

        def reading(nbytes, call, one=one):
            calls = max(BYTES // nbytes, 1)
            started = seconds(threads)
            for i in range(calls):
                call(one, i)
            return nbytes * calls / (seconds(threads) - started) / 1e9

        def computing(call, many=many, flop=2.0 * 512 * outputs * inputs):
            started = seconds(threads)
            call(many, 0)
            return flop / (seconds(threads) - started) / 1e9

        at_one = {name: lambda side=side: reading(*side) for name, side in all_sides.items()}
        at_many = {name: lambda side=side: computing(side[1]) for name, side in all_sides.items()}
        figures[shape] = {
            "GB/s at 1 row": shown(harness.alternate(at_one, repeats)),
            "GFLOP/s at 512 rows": shown(harness.alternate(at_many, repeats)),
        }
        print(shape, json.dumps(figures[shape], indent=1))
    return figures


def shown(rates):
    return {
        name: {"median": round(statistics.median(values), 1), "best": round(max(values), 1)} for name, values in rates.items()
    }


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    figures = products(asked.repeats, asked.threads)
    import torch

    from danlu.engine.native.matrix import instructions

    harness.save(
        Path(__file__).stem, claim="Products in C read weights as fast as memory gives them at one row, and beat torch at many.",
        target="GB/s at one row near the machine's bandwidth; GFLOP/s at 512 rows at least torch's in float32",
        settings={"threads": asked.threads, "repeats": asked.repeats, "instructions": instructions()},
        figures=figures, versions={"torch": torch.__version__},
    )  # fmt: skip


if __name__ == "__main__":
    main()
