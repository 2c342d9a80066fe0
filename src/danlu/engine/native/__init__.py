"""A whole step of the Llama lineage in C, compiled on first use (decision 0100).

matmul.c multiplies, attention.c attends, step.c puts them together; matrix.py packs weights and has the plain twin of the
products, layout.py describes a model to C, runners/native.py serves it. O outputs, I inputs, M rows.
"""
