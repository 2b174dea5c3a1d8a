"""The golden models: small, and each with another combination of the parts of DeepSeek-V2/V3."""

from dataclasses import dataclass, field

from reference import Objective
from transformers import DeepseekV2Config, DeepseekV3Config

# Keys that both generations of the released config.json share with `transformers`' configuration classes.
SHARED_KEYS = (
    "vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads n_shared_experts n_routed_experts routed_scaling_factor kv_lora_rank q_lora_rank "
    "qk_rope_head_dim v_head_dim qk_nope_head_dim n_group topk_group num_experts_per_tok first_k_dense_replace "
    "norm_topk_prob hidden_act max_position_embeddings initializer_range rms_norm_eps tie_word_embeddings "
    "attention_bias attention_dropout bos_token_id eos_token_id"
).split()


@dataclass
class Case:
    name: str
    length: int  # S
    settings: dict  # of the configuration class, rope_parameters apart
    rope: dict = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    version: int = 3
    bias_range: tuple = (-0.9, 0.3)
    never_selected: tuple = ()  # experts whose bias keeps every token away
    min_zero_masked: int = 0  # see zero_masked_differences
    objective: Objective = field(default_factory=Objective)

    def config(self):
        kind = {2: DeepseekV2Config, 3: DeepseekV3Config}[self.version]
        return kind(**self.settings, rope_parameters=dict(self.rope), bos_token_id=0, eos_token_id=1, use_cache=False)

    def released(self):
        """The same model in the words of the config.json that DeepSeek published."""
        config = self.config().to_dict()
        words = {"architectures": [f"DeepseekV{self.version}ForCausalLM"], "model_type": f"deepseek_v{self.version}"}
        words |= {key: config[key] for key in SHARED_KEYS}
        scaling = {key: value for key, value in self.rope.items() if key not in ("rope_theta", "rope_type")}
        words["rope_theta"] = self.rope["rope_theta"]
        words["rope_scaling"] = {"type": "yarn", **scaling} if scaling else None
        words["scoring_func"] = "softmax" if self.version == 2 else "sigmoid"
        words["topk_method"] = config["topk_method"] if self.version == 2 else "noaux_tc"
        words["moe_layer_freq"] = 1
        words["torch_dtype"] = "float32"
        if self.version == 3:
            words["num_nextn_predict_layers"] = config["num_nextn_predict_layers"]
        return words


def yarn(factor, original, mscale, mscale_all_dim, beta_fast=32.0, beta_slow=1.0, theta=10000.0):
    return {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": float(factor),
        "original_max_position_embeddings": original,
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "mscale": mscale,
        "mscale_all_dim": mscale_all_dim,
    }


V3_FULL = dict(
    vocab_size=112, hidden_size=32, num_hidden_layers=3, first_k_dense_replace=1, intermediate_size=48,
    moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2,
    norm_topk_prob=True, routed_scaling_factor=2.5, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=24,
    kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=12, max_position_embeddings=640,
    num_nextn_predict_layers=0,
)  # fmt: skip

V3_NO_Q_LORA = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=2, first_k_dense_replace=0, intermediate_size=48,
    moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=2, n_group=1, topk_group=1,
    norm_topk_prob=True, routed_scaling_factor=1.0, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=None,
    kv_lora_rank=20, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, max_position_embeddings=64,
    num_nextn_predict_layers=0,
)  # fmt: skip

V2_SOFTMAX = dict(
    vocab_size=104, hidden_size=32, num_hidden_layers=3, first_k_dense_replace=1, intermediate_size=40,
    moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, n_group=4, topk_group=2,
    topk_method="group_limited_greedy", norm_topk_prob=False, routed_scaling_factor=4.0, num_attention_heads=4,
    num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=12, v_head_dim=8,
    max_position_embeddings=20480,
)  # fmt: skip

V2_LITE = V2_SOFTMAX | dict(
    num_hidden_layers=2, q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0,
    num_experts_per_tok=2,
)  # fmt: skip

ODD_SIZES = dict(
    vocab_size=101, hidden_size=36, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=50,
    moe_intermediate_size=14, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
    norm_topk_prob=True, routed_scaling_factor=1.7, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=22,
    kv_lora_rank=18, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=14, max_position_embeddings=64,
    rms_norm_eps=1e-4, num_nextn_predict_layers=0,
)  # fmt: skip

DENSE_TIED = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=1, first_k_dense_replace=1, intermediate_size=56,
    moe_intermediate_size=16, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=1, topk_group=1,
    norm_topk_prob=True, routed_scaling_factor=1.0, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=16,
    kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, max_position_embeddings=64,
    tie_word_embeddings=True, num_nextn_predict_layers=0,
)  # fmt: skip

MTP_BALANCE = V3_FULL | dict(num_hidden_layers=2, num_nextn_predict_layers=1)

CASES = {
    case.name: case
    for case in (
        Case("v3_full", 32, V3_FULL, yarn(40, 16, 1.0, 1.0, beta_fast=2.0, beta_slow=0.25), min_zero_masked=5),
        Case("v3_no_q_lora", 24, V3_NO_Q_LORA, bias_range=(-0.3, 0.3), never_selected=(5,)),
        Case("v2_softmax", 40, V2_SOFTMAX, yarn(40, 512, 0.707, 0.707), version=2),
        Case("v2_lite", 24, V2_LITE, yarn(40, 512, 0.707, 0.707), version=2),
        Case("odd_sizes", 19, ODD_SIZES, yarn(4, 16, 1.2, 0.6), bias_range=(-0.6, 0.2)),
        Case("dense_tied", 24, DENSE_TIED),
        Case("mtp_balance", 28, MTP_BALANCE, objective=Objective(mtp_weight=0.3, balance_alpha=0.05)),
    )
}
