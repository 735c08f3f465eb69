"""Compute the parameters, FLOPs and bytes of a model, by arithmetic alone."""

from __future__ import annotations

from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import ModelConfig


def attention_width(model: ModelConfig) -> int:
    """Return the width of the queries, H·Q. It may differ from the hidden size."""
    return model.num_attention_heads * model.head_dim


def block_matmul_parameters(model: ModelConfig) -> int:
    """Return the number of multiplied weights of one block: q, k, v, o and the feed-forward matrices."""
    queries = attention_width(model)
    keys = model.num_key_value_heads * model.head_dim
    # q and o have the width of the queries. k and v have the width of the keys.
    attention = model.hidden_size * (2 * queries + 2 * keys)

    matrices = 3 if load_family(model.architecture).gated_feed_forward else 2
    return attention + matrices * model.hidden_size * model.intermediate_size


def bias_parameters(model: ModelConfig) -> int:
    """Return the number of biases of all linear layers except the head, and of all norms."""
    if not model.bias:
        return 0

    family = load_family(model.architecture)
    # The gate and the up-projection have one bias each. The bias of the down-projection follows below.
    inner = 2 if family.gated_feed_forward else 1
    attention = attention_width(model) + 2 * model.num_key_value_heads * model.head_dim + model.hidden_size
    feed_forward = inner * model.intermediate_size + model.hidden_size
    norms = family.norms_per_block * model.hidden_size

    return model.num_hidden_layers * (attention + feed_forward + norms) + model.hidden_size


def norm_parameters(model: ModelConfig) -> int:
    """Return the number of gains of all norms."""
    family = load_family(model.architecture)
    per_block = family.norms_per_block * model.hidden_size
    if family.qk_norm:
        per_block += 2 * model.head_dim  # q-norm and k-norm, shared by the heads

    final = model.hidden_size

    return model.num_hidden_layers * per_block + final


def embedding_parameters(model: ModelConfig) -> int:
    """Return the number of weights of the token table, and of the position table if it is learned."""
    learned = load_family(model.architecture).learned_positions
    positions = model.max_position_embeddings if learned else 0
    return (model.vocab_size + positions) * model.hidden_size


def head_parameters(model: ModelConfig) -> int:
    """Return the number of weights of the output head. All are multiplied, even if they are shared."""
    return model.vocab_size * model.hidden_size


def parameters(model: ModelConfig) -> int:
    """Return the number of all weights, each counted once."""
    head = 0 if model.tie_word_embeddings else head_parameters(model)
    blocks = model.num_hidden_layers * block_matmul_parameters(model)
    rest = norm_parameters(model) + bias_parameters(model)
    return embedding_parameters(model) + blocks + rest + head


def parameters_without_tables(model: ModelConfig) -> int:
    """Return the number of weights without embedding and head, as some scaling rules count them."""
    head = 0 if model.tie_word_embeddings else head_parameters(model)
    return parameters(model) - embedding_parameters(model) - head


def matmul_parameters(model: ModelConfig) -> int:
    """Return N_matmul, the number of weights that are multiplied.

    The head is multiplied. The embedding is not, because its rows are only looked up.
    """
    return model.num_hidden_layers * block_matmul_parameters(model) + head_parameters(model)


def flops_per_token(model: ModelConfig, sequence_length: int) -> int:
    """Return the forward and backward FLOPs of a token: 6·N_matmul + 12·L·H·Q·T.

    This is the formula of PaLM, appendix B, with full attention.
    """
    # 12 = 2 FLOPs a multiply-add, times 2 products (QKᵀ and PV), times 3 for one forward and two backward
    # passes.
    attention = 12 * model.num_hidden_layers * attention_width(model) * sequence_length
    return 6 * matmul_parameters(model) + attention


def flops_per_token_causal(model: ModelConfig, sequence_length: int) -> int:
    """Return the same, but with only the half of the attention matrix that a causal mask keeps."""
    attention = 6 * model.num_hidden_layers * attention_width(model) * sequence_length
    return 6 * matmul_parameters(model) + attention
