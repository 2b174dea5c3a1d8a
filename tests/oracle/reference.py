"""What make_goldens.py computes with: float64 runs, checkpoint names, losses, AdamW.

Every layer that is run here is one of `transformers`' own.   B sequences, S positions, V vocabulary, E experts.
"""

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from transformers.modeling_layers import MtpModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


class Widen(TorchFunctionMode):
    """Turns every explicit cast to float32 into one to float64.

    `transformers` computes norms, softmax, router scores and rotary angles in float32 whatever the model's dtype is;
    under this mode a float64 model is float64 throughout, with its source untouched.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


def widen_model(model):
    """Makes a model float64, its rotary frequencies recomputed in float64. Run it under Widen()."""
    model.double()
    rotary = model.model.rotary_emb
    init = rotary.compute_default_rope_parameters
    if rotary.rope_type != "default":
        init = ROPE_INIT_FUNCTIONS[rotary.rope_type]
    with torch.no_grad():
        rotary.inv_freq, rotary.attention_scaling = init(model.config)
    assert rotary.inv_freq.dtype == torch.float64


def checkpoint_names(model, mtp, tensors):
    """{id(parameter): tensor} -> {checkpoint name: tensor}: one entry per expert and projection, MTP as layer L."""
    named = {}
    for name, parameter in model.named_parameters():
        put_tensor(named, name, tensors[id(parameter)])
    if mtp is not None:
        prefix = f"model.layers.{model.config.num_hidden_layers}."
        for name, parameter in mtp.layers[0].named_parameters():
            name = re.sub(r"^mtp_block\.", "", name).replace("post_norm", "shared_head.norm")
            put_tensor(named, prefix + name, tensors[id(parameter)])
    return {name: tensor.detach().clone() for name, tensor in sorted(named.items())}


def put_tensor(named, name, tensor):
    match = re.fullmatch(r"(.*\.experts)\.(gate_up_proj|down_proj)", name)
    if not match:
        named[name] = tensor
        return
    for expert, block in enumerate(tensor):
        if match[2] == "down_proj":
            named[f"{match[1]}.{expert}.down_proj.weight"] = block
        else:
            gate, up = block.chunk(2, dim=0)
            named[f"{match[1]}.{expert}.gate_proj.weight"] = gate
            named[f"{match[1]}.{expert}.up_proj.weight"] = up


def selection_biases(model, mtp):
    """{checkpoint name: selection bias} of every MoE layer that has one."""
    found = {}
    blocks = list(model.model.layers) + ([mtp.layers[0].mtp_block] if mtp is not None else [])
    for index, block in enumerate(blocks):
        bias = getattr(getattr(block.mlp, "gate", None), "e_score_correction_bias", None)
        if bias is not None:
            found[f"model.layers.{index}.mlp.gate.e_score_correction_bias"] = bias
    return found


def trained_parameters(model, mtp):
    """Each parameter once: the MTP module shares the embedding and the head."""
    return list(model.parameters()) + (list(mtp.layers.parameters()) if mtp is not None else [])


def adamw(model, mtp):
    """Strait's rule: every matrix decays except the embedding; norms do not. The selection bias is no parameter here."""
    embedding = model.get_input_embeddings().weight
    parameters = trained_parameters(model, mtp)
    decayed = [p for p in parameters if p.ndim >= 2 and p is not embedding]  # a stack of experts is matrices
    plain = [p for p in parameters if p.ndim < 2 or p is embedding]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)


@dataclass
class Objective:
    mtp_weight: float = 0.0  # lambda
    balance_alpha: float = 0.0
    balance_by_bias: bool = True  # f_i counts what was selected (bias, groups); else the plain top-k of the scores


@dataclass
class Outcome:
    total: torch.Tensor  # scalar
    main: torch.Tensor
    logits: torch.Tensor  # [B, S, V]
    mtp: torch.Tensor | None
    mtp_logits: torch.Tensor | None
    balance: dict  # checkpoint layer index -> scalar, without alpha
    routes: dict  # layer index -> (gate, router logits [T, E], ids [T, K])


class RouteRecorder:
    """Keeps what each router returned during one forward."""

    def __init__(self, model, mtp):
        self.routes, self.handles = {}, []
        blocks = list(model.model.layers) + ([mtp.layers[0].mtp_block] if mtp is not None else [])
        for index, block in enumerate(blocks):
            gate = getattr(block.mlp, "gate", None)
            if gate is not None:
                self.handles.append(gate.register_forward_hook(self.hook(index)))

    def hook(self, index):
        def keep(gate, _inputs, outputs):
            self.routes[index] = (gate, outputs[0], outputs[2])

        return keep

    def close(self):
        for handle in self.handles:
            handle.remove()


def sequence_balance(route, num_sequences, by_bias):
    """DeepSeek-V3 report, equations 17-20, without alpha: sum_i f_i P_i of each sequence, averaged over sequences."""
    _, logits, ids = route
    num_experts, top_k = logits.shape[-1], ids.shape[-1]
    scores = logits.sigmoid()
    counted = ids if by_bias else scores.topk(top_k, dim=-1).indices
    chosen = F.one_hot(counted, num_experts).sum(1).to(scores.dtype).view(num_sequences, -1, num_experts)
    share = (scores / scores.sum(-1, keepdim=True)).view(num_sequences, -1, num_experts)
    f = chosen.mean(1) * num_experts / top_k
    return (f * share.mean(1)).sum(-1).mean()


def run(model, mtp, tokens, length, objective):
    """Forward on windows `tokens` [B, >= S + 1] (S + 2 with MTP); S = length."""
    recorder = RouteRecorder(model, mtp)
    output = model.model(input_ids=tokens[:, :length], use_cache=False)
    hidden = output.last_hidden_state  # after the final norm
    logits = model.lm_head(hidden)
    main = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1 : length + 1].flatten())
    total, mtp_loss, mtp_logits = main, None, None
    if mtp is not None:
        positions = torch.arange(1, length + 1)[None]
        state = mtp.forward_layer(0, hidden, positions, None, input_ids=tokens[:, 1 : length + 1])
        mtp_logits = mtp._project_to_logits(state)
        mtp_loss = F.cross_entropy(mtp_logits.flatten(0, 1), tokens[:, 2 : length + 2].flatten())
        total = total + objective.mtp_weight * mtp_loss
    recorder.close()
    balance = {}
    if objective.balance_alpha:
        for index, route in recorder.routes.items():
            balance[index] = sequence_balance(route, tokens.shape[0], objective.balance_by_bias)
        total = total + objective.balance_alpha * sum(balance.values())
    return Outcome(total, main, logits, mtp_loss, mtp_logits, balance, recorder.routes)


def routing_margin(routes):
    """The smallest distance, over tokens and layers, between what was selected and what nearly was."""
    margins = []
    for gate, logits, _ in routes.values():
        sigmoid = hasattr(gate, "e_score_correction_bias")
        scores = logits.sigmoid() + gate.e_score_correction_bias if sigmoid else logits.log_softmax(-1)
        num_groups = gate.num_group or 1
        groups = scores.view(len(scores), num_groups, -1)
        if num_groups > 1:
            group_scores = groups.topk(2, -1).values.sum(-1) if sigmoid else groups.max(-1).values
            ranked = group_scores.sort(-1, descending=True)
            margins.append((ranked.values[:, gate.topk_group - 1] - ranked.values[:, gate.topk_group]).min())
            kept = ranked.indices[:, : gate.topk_group]
            scores = groups.gather(1, kept[..., None].expand(-1, -1, groups.shape[-1])).flatten(1)
        ranked = scores.sort(-1, descending=True).values
        if ranked.shape[-1] > gate.top_k:
            margins.append((ranked[:, gate.top_k - 1] - ranked[:, gate.top_k]).min())
    return float(min(margins).detach()) if margins else float("inf")
