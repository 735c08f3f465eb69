"""Parameters, FLOPs and bytes of a model, by arithmetic alone."""

from __future__ import annotations

from jobctl.jobs.catalog.schema import ModelConfig


def attention_width(model: ModelConfig) -> int:
    """Width of the queries, H·Q, which need not be the hidden size."""
    return model.num_attention_heads * model.head_dim


def block_matmul_parameters(model: ModelConfig) -> int:
    """Weights of one block that are multiplied: q, k, v, o and the feed-forward matrices."""
    queries = attention_width(model)
    keys = model.num_key_value_heads * model.head_dim
    attention = model.hidden_size * (2 * queries + 2 * keys)
    matrices = 2 if model.architecture == "gpt2" else 3  # GELU has up and down; SwiGLU has a gate as well
    return attention + matrices * model.hidden_size * model.intermediate_size


def norm_parameters(model: ModelConfig) -> int:
    """Gains of all norms; no architecture here has biases."""
    per_block = 2 * model.hidden_size
    if model.architecture == "qwen3":
        per_block += 2 * model.head_dim  # q-norm and k-norm, shared by the heads
    return model.num_hidden_layers * per_block + model.hidden_size


def embedding_parameters(model: ModelConfig) -> int:
    positions = model.max_position_embeddings if model.architecture == "gpt2" else 0
    return (model.vocab_size + positions) * model.hidden_size


def head_parameters(model: ModelConfig) -> int:
    """The output head's weights, which are multiplied whether or not they are the embedding's."""
    return model.vocab_size * model.hidden_size


def parameters(model: ModelConfig) -> int:
    """All weights, each once."""
    head = 0 if model.tie_word_embeddings else head_parameters(model)
    blocks = model.num_hidden_layers * block_matmul_parameters(model)
    return embedding_parameters(model) + blocks + norm_parameters(model) + head


def matmul_parameters(model: ModelConfig) -> int:
    """N_matmul: every weight that is multiplied; the output head, but not the embedding look-up."""
    return model.num_hidden_layers * block_matmul_parameters(model) + head_parameters(model)


def flops_per_token(model: ModelConfig, sequence_length: int) -> int:
    """Forward and backward FLOPs a token, 6·N_matmul + 12·L·H·Q·T (PaLM, appendix B, with full attention)."""
    attention = 12 * model.num_hidden_layers * attention_width(model) * sequence_length
    return 6 * matmul_parameters(model) + attention


def flops_per_token_causal(model: ModelConfig, sequence_length: int) -> int:
    """The same with only the half of the attention matrix that a causal mask keeps."""
    attention = 6 * model.num_hidden_layers * attention_width(model) * sequence_length
    return 6 * matmul_parameters(model) + attention
