"""Tables of the effects of torch's functions, methods and modules that have no schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import nn

__all__ = [
    "ACTIVATIONS_WITH_INPLACE",
    "ATTENTION_MODULES",
    "ATTRIBUTES_WITHOUT_TENSOR",
    "BATCH_NORMS",
    "COMPOSITE_FRESH",
    "DROPOUT_FUNCTIONS",
    "DROPOUT_MODULES",
    "FUNCTIONS_FRESH",
    "HIDDEN_VIEWS",
    "METHODS_VIEW",
    "METHODS_WITHOUT_TENSOR",
    "MODULES_FRESH",
    "MODULES_VIEW",
    "MODULES_WITH_INPLACE",
    "OPERATORS_FRESH",
    "OPERATORS_WRITE",
    "words",
]


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


# Operators that are composed of others, so that their schemas promise nothing; checked by hand.
COMPOSITE_FRESH = words(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d addmm
    avg_pool1d conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    cosine_similarity cross_entropy_loss group_norm hstack vstack dstack layer_norm linear
    log_softmax matmul max_pool1d max_pool2d max_pool3d mean one_hot pad prelu relu6
    rms_norm selu softmax stack square std sum tile true_divide var where logsumexp multiply
    subtract divide greater less not_equal tensor max min absolute negative clip concat
    concatenate arccos arccosh arcsin arcsinh arctan arctan2 arctanh argsort msort cdist
    column_stack row_stack cross diff fix fliplr flipud float_power ger outer greater_equal
    less_equal inner isclose isfinite isreal kron nanmean std_mean var_mean take_along_dim
    tensordot repeat_interleave pairwise_distance quantile
    """
)
# Operators that may return (a view of) their argument although their schema names no alias.
HIDDEN_VIEWS = words(
    """
    as_tensor einsum broadcast_tensors meshgrid atleast_1d atleast_2d atleast_3d type_as
    """
)
OPERATORS_FRESH = words(
    """
    add sub mul truediv floordiv mod pow neg pos abs matmul lt le eq ne gt ge and_ or_ xor
    invert not_ lshift rshift concat contains index truth is_ is_not
    """
)
OPERATORS_WRITE = words(
    """
    iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor ilshift irshift
    setitem delitem
    """
)
ACTIVATIONS_WITH_INPLACE: frozenset[Callable[..., Any]] = frozenset(
    {
        F.relu,
        F.relu6,
        F.elu,
        F.selu,
        F.celu,
        F.leaky_relu,
        F.silu,
        F.mish,
        F.hardswish,
        F.hardsigmoid,
        F.hardtanh,
        F.threshold,
    }
)
DROPOUT_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.feature_alpha_dropout,
    }
)
FUNCTIONS_FRESH: frozenset[Callable[..., Any]] = frozenset(
    {
        F.softmax,
        F.log_softmax,
        F.softmin,
        F.layer_norm,
        F.rms_norm,
        F.group_norm,
        F.local_response_norm,
        F.normalize,
        F.max_pool1d,
        F.max_pool2d,
        F.max_pool3d,
        F.adaptive_avg_pool2d,
        F.adaptive_avg_pool3d,
        F.adaptive_max_pool1d,
        F.adaptive_max_pool2d,
        F.adaptive_max_pool3d,
        F.lp_pool1d,
        F.lp_pool2d,
        F.interpolate,
        F.upsample,
        F.pad,
        F.glu,
        F.tanh,
        F.sigmoid,
        F.softsign,
        F.tanhshrink,
        F.unfold,
        F.fold,
        F.cross_entropy,
        F.mse_loss,
        F.grid_sample,
        F.affine_grid,
    }
)
METHODS_WITHOUT_TENSOR = words(
    """
    size dim ndimension numel nelement item tolist is_contiguous stride storage_offset
    element_size is_floating_point is_complex get_device __len__
    """
)
ATTRIBUTES_WITHOUT_TENSOR = ("shape", "dtype", "device", "ndim", "layout", "requires_grad")
METHODS_VIEW = words(
    """
    to float half double bfloat16 int long short bool cpu type view reshape contiguous
    expand chunk split transpose permute flatten unflatten t squeeze unsqueeze detach
    """
)

MODULES_FRESH: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
        nn.Linear,
        nn.Bilinear,
        nn.LayerNorm,
        nn.RMSNorm,
        nn.GroupNorm,
        nn.LocalResponseNorm,
        nn.GELU,
        nn.Sigmoid,
        nn.Tanh,
        nn.Softmax,
        nn.Softmax2d,
        nn.LogSoftmax,
        nn.Softmin,
        nn.Softplus,
        nn.Softsign,
        nn.Tanhshrink,
        nn.Softshrink,
        nn.Hardshrink,
        nn.LogSigmoid,
        nn.GLU,
        nn.PReLU,
        nn.AvgPool1d,
        nn.AvgPool2d,
        nn.AvgPool3d,
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.MaxPool3d,
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        nn.AdaptiveMaxPool1d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveMaxPool3d,
        nn.Upsample,
        nn.UpsamplingNearest2d,
        nn.UpsamplingBilinear2d,
        nn.PixelShuffle,
        nn.PixelUnshuffle,
        nn.ZeroPad2d,
        nn.ConstantPad2d,
        nn.ReflectionPad2d,
        nn.ReplicationPad2d,
        nn.Embedding,
        nn.ChannelShuffle,
    }
)
MODULES_WITH_INPLACE: frozenset[type[nn.Module]] = frozenset(
    {
        nn.ReLU,
        nn.ReLU6,
        nn.ELU,
        nn.SELU,
        nn.CELU,
        nn.LeakyReLU,
        nn.SiLU,
        nn.Mish,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.Hardtanh,
        nn.Threshold,
    }
)
MODULES_VIEW: frozenset[type[nn.Module]] = frozenset({nn.Identity, nn.Flatten, nn.Unflatten})
DROPOUT_MODULES: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    }
)
BATCH_NORMS: frozenset[type[nn.Module]] = frozenset(
    {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm}
)
#: The layers that are one node of a graph, and whose formula `expand_attention` knows.
ATTENTION_MODULES: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Transformer,
        nn.TransformerEncoder,
        nn.TransformerDecoder,
        nn.TransformerEncoderLayer,
        nn.TransformerDecoderLayer,
        nn.MultiheadAttention,
    }
)
