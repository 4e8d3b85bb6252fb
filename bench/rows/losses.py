"""Losses of pairs and of classes, and the arithmetic of two tensors."""

from bench.operator import Operator

_PLANES = (8, 16, 256, 256)  # 32 MB in float32
_SCORES = (8, 64, 128, 128)
_ROWS = (4096, 1000)

TABLE = [
    *(Operator(name, _PLANES, tensors={"target": ["normal"]}) for name in ("mse_loss", "l1_loss", "huber_loss")),
    Operator("mse_loss", _PLANES, {"reduction": "none"}, {"target": ["normal"]}),
    Operator("smooth_l1_loss", _PLANES, {"beta": 0.5}, {"target": ["normal"]}),
    Operator("binary_cross_entropy", _PLANES, tensors={"target": ["shares"]}, kind="shares"),
    Operator("binary_cross_entropy_with_logits", _PLANES, tensors={"target": ["shares"]}),
    Operator("kl_div", _PLANES, {"reduction": "batchmean"}, {"target": ["shares"]}),
    Operator("poisson_nll_loss", _PLANES, tensors={"target": ["positive"]}),
    Operator("soft_margin_loss", _PLANES, tensors={"target": ["normal"]}),
    *(
        Operator(function, shape, tensors={"target": [kind]})
        for shape in (_SCORES, _ROWS)
        for function, kind in (("cross_entropy", "classes"), ("cross_entropy", "shares"), ("nll_loss", "classes"))
    ),
    Operator("add", _PLANES, tensors={"other": ["normal"]}, has_backward=False),
    Operator("mul", _PLANES, tensors={"other": ["normal"]}),
    Operator("div", _PLANES, tensors={"other": ["positive"]}),
    Operator("maximum", _PLANES, tensors={"other": ["normal"]}),
    Operator("add", _PLANES, {"other": 1.5}, has_backward=False),
    Operator("mul", _PLANES, {"other": 1.5}),
]
