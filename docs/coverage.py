"""Writes docs/coverage.md: every function and layer of torch.nn, and whether it is here.

python docs/coverage.py writes it anew; the tests compare it with what is installed. It needs PyTorch.
"""

import inspect
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coverage.md"

# Names in torch.nn.functional that are helpers of its own, not functions of tensors.
HELPERS = {
    "Optional", "assert_int_or_pair", "boolean_dispatch", "handle_torch_function", "has_torch_function",
    "has_torch_function_unary", "has_torch_function_variadic",
}  # fmt: skip

_TEXT = "for sequences of words, which this library is not for"
_RECURRENT = "recurrent; this library is for convolutional networks"
_ATTENTION = "built from `scaled_dot_product_attention` and `linear`, which are here"
_QUANTISED = "products of 8-bit and ragged matrices on tensor cores"

MISSING_FUNCTIONS = {
    **dict.fromkeys(["grouped_mm", "scaled_grouped_mm", "scaled_mm"], _QUANTISED),
    "conv_tbc": "a layout of sequences; `conv1d` computes the same",
    "ctc_loss": _TEXT,
    "embedding_bag": _TEXT,
    "linear_cross_entropy": "for vocabularies too large for memory; `cross_entropy(linear(x, w), y)` is the same",
    "multi_head_attention_forward": _ATTENTION,
}  # fmt: skip

MISSING_LAYERS = {
    **dict.fromkeys(["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"], _RECURRENT),
    **dict.fromkeys(
        ["MultiheadAttention", "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
         "TransformerEncoderLayer"],
        _ATTENTION,
    ),
    "AdaptiveLogSoftmaxWithLoss": _TEXT,
    "CTCLoss": _TEXT,
    "EmbeddingBag": _TEXT,
    "LinearCrossEntropyLoss": "see `linear_cross_entropy` above",
    "CrossMapLRN2d": "an older `LocalResponseNorm`",
    "Container": "deprecated in PyTorch; `Module`",
    "DataParallel": "one process drives one device",
    "SyncBatchNorm": "one process drives one device",
}  # fmt: skip

HEAD = """# What is here of PyTorch

Made by `python docs/coverage.py` from PyTorch {version}. What is listed as here has PyTorch's parameters, in its order
and with its defaults, and is compared with it in the tests: on the samples that PyTorch keeps of its own operators, and
on calls drawn at random, of which thousands a family are answered alike or refused by both.
"""


def functions(torch):
    """The public functions of torch.nn.functional, by name."""
    names = [name for name in dir(torch.nn.functional) if not name.startswith("_") and name not in HELPERS]
    values = {name: getattr(torch.nn.functional, name) for name in names}
    return {name: value for name, value in values.items() if callable(value) and not inspect.isclass(value)}


def layers(torch):
    """The public modules of torch.nn, by name."""
    values = {name: getattr(torch.nn, name) for name in dir(torch.nn) if not name.startswith("_")}
    return {name: v for name, v in values.items() if inspect.isclass(v) and issubclass(v, torch.nn.Module)}


def table(names, here, missing):
    """Rows of Markdown, and the names that neither are here nor have a reason for it."""
    rows, unexplained = [], []
    for name in sorted(names, key=lambda name: (name.lower(), name)):
        if name not in here and name not in missing:
            unexplained.append(name)
        rows.append(f"| `{name}` | {'here' if name in here else f'no: {missing.get(name)}'} |")
    return rows, unexplained


def page():
    """The page, as it should be.

    Raises:
        LookupError: Something is missing without a reason, or has a reason although it is here.
    """
    import torch

    from fastconv import functional, nn, ops

    made_functions, made_layers = set(functional.__all__), {name for name in dir(nn) if not name.startswith("_")}
    stale = sorted((made_functions & set(MISSING_FUNCTIONS)) | (made_layers & set(MISSING_LAYERS)))
    theirs, modules = functions(torch), layers(torch)
    rows, lost = table(theirs, made_functions, MISSING_FUNCTIONS)
    layer_rows, lost_layers = table(modules, made_layers, MISSING_LAYERS)
    if lost or lost_layers or stale:
        raise LookupError(f"without a reason: {lost + lost_layers}; here after all: {stale}")
    here = sum(name in made_functions for name in theirs)
    layers_here = sum(name in made_layers for name in modules)
    extra = sorted(made_functions - set(theirs) - {name for name in made_functions if hasattr(torch, name)})
    operators = ", ".join(f"`{name}`" for name in sorted(ops.__all__))
    parts = [
        HEAD.format(version=torch.__version__.split("+")[0]),
        f"## Functions of torch.nn.functional\n\n{here} of {len(theirs)}.\n",
        "| function | |\n| --- | --- |\n" + "\n".join(rows) + "\n",
        f"## Layers of torch.nn\n\n{layers_here} of {len(modules)}.\n",
        "| layer | |\n| --- | --- |\n" + "\n".join(layer_rows) + "\n",
        "## Beyond torch.nn.functional\n\nOf torchvision.ops, in `fastconv.ops`: " + operators + ".\n",
        "In `fastconv.functional` and not in PyTorch: " + ", ".join(f"`{name}`" for name in extra) + ".\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
