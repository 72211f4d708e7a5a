"""One convolution of CLR."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator

from .common import Arrays, conv


def clr_layer(rng: Generator) -> Arrays:
    c_in, c_out = (int(rng.integers(1, 6)) for _ in range(2))
    kernel, own = int(rng.choice([1, 3, 5])), int(rng.choice([1, 3, 5]))
    stride, padding = int(rng.integers(1, 3)), int(rng.integers(0, 3))
    x = rng.normal(size=(2, c_in, 9, 9))
    weight, bias = rng.normal(size=(c_out, c_in, kernel, kernel)), rng.normal(size=c_out)
    h = conv(x, weight, bias, stride, padding)
    identity = np.zeros((c_out, 1, own, own))
    identity[:, 0, own // 2, own // 2] = 1
    clr_weight = rng.normal(size=identity.shape)
    out = conv(h, clr_weight, padding=own // 2, groups=c_out)
    probe, half = rng.normal(size=out.shape), own // 2
    padded = np.pad(h, ((0, 0), (0, 0), (half, half), (half, half)))
    windows = sliding_window_view(padded, (own, own), axis=(2, 3))
    return {
        "x": x, "conv_weight": weight, "conv_bias": bias, "kernel": kernel, "stride": stride,
        "padding": padding, "clr_kernel": own, "clr_weight_init": identity, "out_init": h,
        "conv_out": h, "clr_weight": clr_weight, "out": out, "probe": probe,
        "clr_weight_grad": np.einsum("nchwij,nchw->cij", windows, probe)[:, None],
        "conv_has_grad": False, "clr_has_bias": False,
    }  # fmt: skip
